#!/usr/bin/env python3
"""Runs the same scripts on two servers and compares the replies byte by byte, in RESP2 and RESP3.

    ci/compare_scripts.py HOST:PORT [--oracle HOST:PORT] [--random N] [--seed S]

starts a valkey-server on a free port (VALKEY_SERVER names another binary) unless an oracle is given. Scripts are those
below and N random ones that send values through cjson, cmsgpack, struct and bit. Exits with 1 and lists what differs.
"""

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time

# What differs on purpose: the server's own name and version, and where valkey-server 8.0.1 ends or lets scripts change
# what all share.
KNOWN = [
    "return redis.SERVER_NAME",
    "return {redis.VALKEY_VERSION}",
    "getmetatable('').__index = nil",
]

SCRIPTS = r"""
return {err='a b'}
return {err='ab'}
return redis.error_reply('ab')
return redis.error_reply('-ab c')
return redis.error_reply('-ab')
return redis.error_reply('a\r\nb')
return redis.error_reply()
return redis.error_reply(1)
return redis.status_reply('x')
return redis.status_reply(1)
return redis.pcall('incr')
x=
return redis.log(1)
return redis.log('a','b')
return redis.log(9,'b')
return redis.sha1hex()
return redis.sha1hex('abc')
return redis.sha1hex(1)
return redis.setresp()
return redis.setresp(4)
return redis.set_repl()
return redis.set_repl(99)
return redis.acl_check_cmd()
return redis.acl_check_cmd('nope')
return redis.acl_check_cmd('set','a','b')
return redis.replicate_commands()
return redis.breakpoint()
return redis.debug('x')
return redis.REDIS_VERSION
return redis.REDIS_VERSION_NUM
local a,b=loadstring('\27Lua') return b
return load(function() return nil end)
return print('a')
return getmetatable(nil)
local t={} setmetatable(t,{__index=function() error('q') end}) return t.x
redis.call('set','s','1') return redis.call('lpush','s','1')
local function f() return f()+1 end return f()
return (nil)()
return nil..'x'
return redis.register_function
return #redis
return getfenv(0)==_G
return type(newproxy(true))
return os.time()
return 1e300
return -1.5
return 0/0
return 1/0
return {1,nil,3}
return {double=1.5}
return {double=1e20}
return {double=3}
return {double=1/0}
return {map={a=1}}
return {map={}}
return {set={a=true}}
return true
return false
return nil
redis.setresp(3) return true
redis.setresp(3) return false
redis.setresp(3) return redis.call('hgetall','nokey')
redis.call('del','h') redis.call('hset','h','f','v') redis.setresp(3) return redis.call('hgetall','h')
redis.call('del','s2') redis.call('sadd','s2','a') redis.setresp(3) return redis.call('smembers','s2')
redis.call('del','z') redis.call('zadd','z','1.5','a') redis.setresp(3) return redis.call('zscore','z','a')
redis.call('del','z') redis.call('zadd','z','1.5','a') return redis.call('zscore','z','a')
redis.setresp(3) return tostring(redis.call('get','nokey'))
return tostring(redis.call('get','nokey'))
return redis.call('eval','return 1',0)
return {big_number='12'}
return {verbatim_string={string='x',format='txt'}}
return {verbatim_string={string='x',format='t'}}
return {verbatim_string={string='x'}}
return {double=1, map={a=1}, ok='1'}
return {double=1, map={a=1}, set={}}
return {map={a=1}, set={b=true}, big_number='1'}
return function() end
return {redis.pcall('lpush','s','x'), 2}
local t=redis.pcall('lpush','s','x') return tostring(t.ignore_error_stats_update)..t.err
local ok,t=pcall(redis.call,'lpush','s','x') return t
local ok,t=pcall(function() foo() end) return t
local ok,t=pcall(error,{err='x'}) return t
local ok,t=pcall(error,{a='x'}) return type(t)
local ok,t=xpcall(function() error({err='x y'}) end, function(e) return e end) return t
return redis.call('ping')
return redis.call('ping','hi')
return redis.call('echo','hi')
return redis.call('set','x',3.3) and redis.call('get','x')
return redis.call('set','x',1e20) and redis.call('get','x')
return redis.call('set','x',0/0) and redis.call('get','x')
return redis.call('set','x',1/0) and redis.call('get','x')
return redis.call('set','x',2^53) and redis.call('get','x')
return redis.call('set','x',-1e18) and redis.call('get','x')
return redis.call('set','x',0.1) and redis.call('get','x')
return redis.call('set','x',-0.0) and redis.call('get','x')
return redis.call('set','x',1e-7) and redis.call('get','x')
return redis.call('set','x',1.5e25) and redis.call('get','x')
return redis.call('set','x',123456789.123) and redis.call('get','x')
return redis.call('nope')
return redis.call()
return redis.pcall()
return redis.call({})
return redis.pcall({})
return redis.call('get')
return redis.call('multi')
return redis.call('config','get','x')
return redis.call('client','setname','x')
return redis.call('client','nope')
return redis.call('debug','jmap')
return redis.call('object','encoding')
return redis.call('object','nope','x')
return redis.call('select',5)
return redis.call('select',500)
return redis.call('select','x')
redis.call('select',9) redis.call('set','in9','v') return redis.call('get','in9')
return redis.call('get','in9')
return type(table.foreach(bit,function(k) return k end))
local s='' for k in pairs(os) do s=s..k end return s
math.randomseed(1) return {math.random(1000), math.random(1000), tostring(math.random()), math.random(5,10)}
math.randomseed(-5.5) return {math.random(1000), tostring(math.random())}
return math.random(0)
return math.random(1,2,3)
return math.random('x')
return math.randomseed()
local ok,e=pcall(table.setn,{},1) return e
return cjson._VERSION
return cmsgpack._VERSION..cmsgpack._NAME..cmsgpack._COPYRIGHT..cmsgpack._DESCRIPTION
coroutine.yield()
return coroutine.wrap(function() return redis.call('ping') end)()
local c=coroutine.create(function() error('in') end) local ok,e=coroutine.resume(c) return e
goto x
return '\0a'
error('a\0b')
error('x',0)
error('x',2)
error('x',5)
error()
error(nil)
error(true)
error(5)
return {err='a\nb'}
return {ok='a\nb'}
return select('#', pcall(function() return 1,2,3 end))
return {pcall(error)}
return table.insert({},1,2,3)
return table.insert(1)
return next({},'nokey')
return rawset({})
return rawget({})
return setmetatable({},1)
return setmetatable(1,{})
return getmetatable(setmetatable({},{__metatable='x'}))
return setmetatable(setmetatable({},{__metatable='x'}),{})
return ipairs()
return pairs()
return next(1)
return tostring(1e15)
return tostring(2^63)
return ('%5.2f|%s|%q'):format(1.234,'a','b"c')
for k,v in string.gmatch('a=1,b=2','(%w+)=(%w+)') do redis.call('set',k,v) end return redis.call('mget','a','b')
return string.gsub('hello world','o',{o='0'})
local t={3,1,2} table.sort(t) return t
local t={3,1,2} table.sort(t,function(a,b) return redis.call('ping') and a>b end) return t
return unpack({1,2,3})
return #ARGV
return redis.call('zadd','zz','x','y')
return redis.call('incrby','x1','y')
return loadstring('return ...')(5)
return loadstring('error("x")')()
local t={} for i=1,300 do t[i]=i end return t
local t={} for i=1,10 do t={t} end return t
return cjson.encode({1,2,3})
return cjson.encode({})
return cjson.encode({a=1.5})
return cjson.encode('a/b"\\\n\t\0\127\200\8\12\r\1')
return cjson.encode({[1]=1,[20]=2})
return cjson.encode({[1]=1,[3]=2})
return cjson.encode(0/0)
return cjson.encode(1/0)
return cjson.encode(function() end)
return cjson.encode({[{}]=1})
return cjson.encode({[1.5]=1})
return cjson.encode({[true]=1})
local t={} t[1]=t return cjson.encode(t)
return cjson.encode(1e15)
return cjson.encode(1e14)
return cjson.encode(99999999999999)
return cjson.encode(-99999999999999)
return cjson.encode(-0.0)
return cjson.encode(0.00001)
return cjson.encode(0.0001)
return cjson.encode(3.14159265358979)
return cjson.encode(123456789012345678)
return cjson.encode(cjson.null)
return cjson.encode(nil)
return cjson.encode()
return cjson.encode(1,2)
return cjson.decode("[1,2,{\"a\":null}]")[3].a == cjson.null
return cjson.decode("")
return cjson.decode("[1")
return cjson.decode("[1,]")
return cjson.decode("{1:2}")
return cjson.decode("nan")
return tostring(cjson.decode("-nan"))
return tostring(cjson.decode("0x10"))
return tostring(cjson.decode("0x1.8p3"))
return tostring(cjson.decode("inf"))
return tostring(cjson.decode("Infinity"))
return tostring(cjson.decode("-Infinity"))
return tostring(cjson.decode("01"))
return tostring(cjson.decode("1e5"))
return tostring(cjson.decode("1e"))
return tostring(cjson.decode("-"))
return tostring(cjson.decode("12345678901234567890"))
return cjson.decode("\"\\u00e9\\ud83d\\ude00\\n\"")
return cjson.decode("\"\\u0000a\"")
return cjson.decode("\"\\x\"")
return cjson.decode("\"\\ud83d\"")
return cjson.decode("\"\\udc00\"")
return cjson.decode("\"\\ud83d\\u0041\"")
return cjson.decode("\"\\u12\"")
return cjson.decode("tru")
return tostring(cjson.decode("[] x"))
return cjson.decode()
return cjson.decode({})
return cjson.decode(1)
return cjson.decode(string.rep("[",1001))
return cjson.decode(string.rep("[",999)..string.rep("]",999))[1] ~= nil
return cjson.encode_max_depth(0)
return cjson.encode_number_precision(15)
return cjson.encode_invalid_numbers("x")
return cjson.encode_sparse_array("x")
return cjson.encode_max_depth(1,2)
return cjson.encode_number_precision("x")
local c=cjson.new() c.encode_number_precision(3) return c.encode(3.14159)..cjson.encode(3.14159)
local c=cjson.new() c.encode_invalid_numbers(true) return c.encode({0/0,1/0,-1/0})
local c=cjson.new() c.encode_invalid_numbers('null') return c.encode({0/0,1/0,-1/0})
local c=cjson.new() c.decode_invalid_numbers(false) return c.decode('[0x10]')
local c=cjson.new() c.encode_sparse_array(true) return c.encode({[1]=1,[100]=2})
local c=cjson.new() c.encode_max_depth(2) return c.encode({{{1}}})
local c=cjson.new() c.decode_max_depth(2) return c.decode('[[[1]]]')
local c=cjson.new() return {tostring(c.encode_invalid_numbers()), tostring(c.encode_keep_buffer(false)), c.encode_sparse_array(true,3,5)}
return cjson.decode("{\"a\":1 \"b\"}")
return cjson.decode("{\"a\" 1}")
return cjson.decode("[\"\1\"]")
return cjson.decode("\"abc")
return cjson.decode("\0[]")
return cjson.decode("[1]\0garbage")
return tostring(cjson.decode("1.5abc"))
return cjson.decode("[1.5abc]")
return cjson.decode("{\"a\":[}")
return tostring(cjson.decode("-0"))
return tostring(cjson.decode("+1"))
return tostring(cjson.decode(".5"))
return tostring(cjson.decode("1."))
return tostring(cjson.decode("NaN"))
return tostring(cjson.decode("nanx"))
return cjson.encode({[-1]=1})
return cjson.encode({[0]=1})
return cjson.encode({a="x",[1]=2})
return tostring(cjson.null)
return cjson.encode(cjson.decode('{"b":1,"a":{"x":[1,2,{"k":null}]},"c":"d","long key":true,"e":-1.25e-7}'))
return cmsgpack.pack()
return cmsgpack.pack(1,2,'a',nil,true,{})
return cmsgpack.pack({1,2,3,{a=1}})
return cmsgpack.pack(setmetatable({},{}))
local t={} t.x=t return cmsgpack.pack(t)
local t={} for i=1,20 do t={t} end return cmsgpack.pack(t)
return cmsgpack.pack(function() end)
return cmsgpack.unpack()
return cmsgpack.unpack('')
return cmsgpack.unpack({})
return cmsgpack.unpack('\193')
return cmsgpack.unpack('\146\1')
return cmsgpack.unpack('\217')
return {cmsgpack.unpack('\1\2\3')}
return {cmsgpack.unpack_one('\1\2\3')}
return {cmsgpack.unpack_one('\1\2\3',2)}
return {cmsgpack.unpack_one('\1\2\3',3)}
return {cmsgpack.unpack_one('\1\2\3',4)}
return {cmsgpack.unpack_one('\1\2\3',-1)}
return {cmsgpack.unpack_limit('\1\2\3',2)}
return {cmsgpack.unpack_limit('\1\2\3',-2)}
return {cmsgpack.unpack_limit('\1\2\3',0,1)}
return {cmsgpack.unpack_limit('\1\2\3')}
return {cmsgpack.unpack_limit('\1\2\3','x')}
return tostring(cmsgpack.unpack('\207\255\255\255\255\255\255\255\255'))
return tostring(cmsgpack.unpack('\203\64\9\33\251\84\68\45\24'))
return tostring(cmsgpack.unpack('\202\63\192\0\0'))
return cmsgpack.unpack('\129\192\1')
return cmsgpack.unpack('\196\1a')
return cmsgpack.unpack('\199\1\1a')
return cmsgpack.unpack('\220\0\2\1\2')
return cmsgpack.unpack('\221\0\0\0\1\2')
return bit.tohex(255,4)
return bit.tohex(255,-4)
return bit.tohex(255,20)
return bit.tohex(255,0)
return bit.tobit(0xffffffff)
return bit.tobit(2^40+5)
return bit.bnot(0)
return bit.band(0xff,0x0f,7)
return bit.lshift(1,33)
return bit.rshift(-1,1)
return bit.arshift(-8,1)
return bit.rol(0x12345678,8)
return bit.ror(0x12345678,8)
return bit.bswap(0x12345678)
return bit.tobit("x")
return bit.tobit()
return bit.tobit("12")
return bit.band()
return bit.tobit(1.5)
return bit.tobit(0/0)
return bit.tobit(1e300)
return bit.lshift(1)
return bit.band(1,{})
return struct.pack('I',1)
return struct.pack('q',1)
return struct.pack()
return struct.pack('i9',1)
return struct.pack('i33',1)
return struct.size('s')
return struct.size('c0')
return struct.size('i3')
return struct.size('!bi')
return struct.size('!16bd')
return struct.size('!3b')
return struct.size('!0b')
return struct.size('z')
return struct.unpack('I','ab')
return {struct.unpack('>I2I1c2s','abcdefg\0z')}
return {struct.unpack('bc0','\3abc')}
return struct.unpack('c0','abc')
return struct.unpack('s','abc')
return struct.pack('c5','abc')
return struct.pack('bx','1')
return struct.pack('s','a')
return struct.pack('bb',1)
return struct.pack('bbb',1)
return {struct.unpack('<i4','abcde',2)}
return struct.unpack('i','abcd',-1)
return struct.unpack('i4','abcd',10)
return struct.unpack('i4','abcd',0)
return struct.pack('!4bi4l',1,2,3)
return struct.pack('Hx Bb',1,2,3)
return struct.pack('>d<f',1.5,2.5)
return struct.pack('i2',70000)
return struct.pack('i8',-1)
return struct.pack('i8',1e300)
return struct.pack('I8',2^63)
return struct.pack('I8',0/0)
return struct.pack('T',5)
return struct.pack('i0',5)
return {struct.unpack('i8',struct.pack('i8',-2))}
return {struct.unpack('I8',struct.pack('i8',-2))}
return {struct.unpack('i3>i3',struct.pack('i3>i3',-2,-3))}
return struct.pack('i2147483648',1)
return struct.pack('c','ab')
return struct.pack('b',nil)
return struct.size('c2147483647c2147483647')
return struct.pack('!','x')
return struct.pack('i16',1)
return struct.pack('>i16',1)
return {struct.unpack('>i16',struct.pack('>i16',-1))}
return struct.pack('=i',1)
return {struct.unpack('!4bi4','a\0\0\0abcd')}
return {struct.unpack('fd',struct.pack('fd',1.25,-2.5))}
#!lua flags=no-writes~return redis.call('set','a','b')
#!lua flags=no-writes~return redis.call('get','a')
#!foo~return 1
#!lua name=x~return 1
#!lua flags=bad~return 1
#!lua
#!lua flags=no-writes,no-cluster,allow-oom,allow-stale,allow-cross-slot-keys~error('x')
#!lua flags=~return 1
#!lua  flags=no-writes  ~return 1
#!lua badopt=1~return 1
#!~return 1
"""

LIBRARIES = r"""
return redis.call('get','x')
redis.setresp(3)
local s='' for k,v in pairs(_G) do s=s..' '..k end error(s)
redis.register_function('f', function(k,a) return k end) return 1
return 1
redis.register_function('f')
redis.register_function(1,2,3)
redis.register_function('f', 1)
redis.register_function({}, 1)
redis.register_function('f-1', function() end)
redis.register_function('f', function() end) redis.register_function('f', function() end)
redis.register_function{function_name='f', callback=function() end, flags={'no-writes'}, description='d'}
redis.register_function{function_name='f', callback=function() end, flags={'bad'}}
redis.register_function{function_name='f', callback=function() end, flags={1}}
redis.register_function{function_name='f', callback=function() end, flags='x'}
redis.register_function{function_name='f', foo=1}
redis.register_function{function_name='f'}
redis.register_function{callback=function() end}
redis.register_function{function_name={},callback=function() end}
redis.register_function{function_name='f',callback=1}
redis.register_function{[1]='f',callback=1}
redis.register_function{[{}]='f',callback=1}
redis.register_function{function_name='f',callback=function() end, description={}}
redis.register_function()
redis.register_function(1)
x=
foo=1
return foo
redis.foo=1
local a={} a.b.c=1
redis.register_function('f', function(k,a) return {k,a,#k} end)~redis.register_function('g', function(k,a) redis.register_function('h',function() end) end)~redis.register_function('w', function(k,a) return redis.call('set','x','y') end)~redis.register_function('e', function(k,a) return KEYS end)~redis.register_function('e2', function(k,a) x=1 end)~redis.register_function('e3', function(k,a) error({err='x y'}) end)~redis.register_function('e4', function(k,a) return redis.sha1hex('') end)~redis.register_function{function_name='r', callback=function() return redis.call('set','x','y') end, flags={'no-writes'}}
"""

COMMANDS = r"""
fcall f 1 a b
fcall g 0
fcall w 0
fcall e 0
fcall e2 0
fcall e3 0
fcall e4 0
fcall r 0
fcall_ro w 0
fcall_ro r 0
fcall f x
fcall f -1
fcall f 3 a
fcall f 9223372036854775807 a
fcall nope 0
fcall F 0
function list libraryname nope*
function list withcode withcode
function list libraryname
function list foo
function delete nope
function stats
function load #!lua
function restore xx
function restore xx bad
function restore xx flush x
function dump x
function flush x
function flush sync x
function delete
function load replace
function load x y z
function load foo bar
function nope
function help
function kill
function kill x
script help
script kill
script load
script load x=
script load return~1
script exists e0e1f9fabfc9d4800c877a703b823ac0578ff8db aaaa
script exists E0E1F9FABFC9D4800C877A703B823AC0578FF8DB
script exists
script flush x
script flush async
script flush sync x
script exists e0e1f9fabfc9d4800c877a703b823ac0578ff8db
script nope
script show aaaa
script show
evalsha aaaa 0
evalsha aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0
evalsha aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa x
evalsha aaaa x
eval return~1 -1
eval return~1 2 a
eval return~1 x
eval return~1
eval_ro return~redis.call('set','a','b') 0
eval_ro return~redis.call('get','a') 0
eval_ro #!lua\nreturn~1 0
evalsha_ro aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0
eval return~{KEYS[1],KEYS[2],ARGV[1],ARGV[2]} 2 a b c d
"""


class Server:
    def __init__(self, address, protocol):
        host, port = address.rsplit(":", 1)
        self.address, self.protocol = (host, int(port)), protocol
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(self.address, timeout=10)
        self.file = self.socket.makefile("rb")
        if self.protocol == 3:
            self.ask(["HELLO", "3"])

    def ask(self, words):
        words = [word if isinstance(word, bytes) else word.encode("latin-1") for word in words]
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(request)
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line:
            raise EOFError
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and rest != b"-1":
            return line + self.file.read(int(rest) + 2)
        if kind in b"*~>":
            return line + b"".join(self.reply() for _ in range(max(int(rest), 0)))
        if kind == b"%":
            return line + b"".join(self.reply() for _ in range(2 * int(rest)))
        return line


def random_value(rng, depth=0):
    """An expression in Lua."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return str(rng.choice([0, 1, -1, 15, 16, 127, 128, 255, 256, 65535, 65536, 2**31, -(2**31), 2**32, 2**53, -33]))
    if kind == 1:
        return repr(rng.choice([rng.random(), rng.uniform(-1e6, 1e6), rng.uniform(-1, 1) * 10 ** rng.randrange(-20, 20)]))
    if kind in (2, 3):
        return '"' + "".join("\\%03d" % rng.randrange(256) for _ in range(rng.choice([0, 1, 3, 31, 32, 40]))) + '"'
    if kind == 4:
        return rng.choice(["true", "false", "nil", "cjson.null"])
    if kind == 5:
        return str(rng.randrange(-(10**15), 10**15))
    values = [random_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if kind in (6, 7):
        return "{" + ",".join(values) + "}"
    keys = rng.sample(["a", "b", "key", "x1", "longer_key", "k2"], min(len(values), 6))
    return "{" + ",".join("%s=%s" % pair for pair in zip(keys, values)) + "}"


def random_script(rng):
    value = random_value(rng)
    kind = rng.randrange(7)
    if kind == 0:
        return f"return cjson.encode({value})"
    if kind == 1:
        return f"return cmsgpack.pack({value})"
    if kind == 2:
        return f"return cjson.encode(cmsgpack.unpack(cmsgpack.pack({value})))"
    if kind == 3:
        return f"local ok, t = pcall(cjson.encode, {value}) if not ok then return t end return cjson.encode(cjson.decode(t))"
    if kind == 4:
        data = "".join("\\%03d" % rng.randrange(256) for _ in range(rng.randrange(12)))
        return f'return cjson.encode({{cmsgpack.unpack("{data}")}})'
    if kind == 5:
        form = "".join(rng.choice([">", "<", "!4", "!", "b", "B", "h", "H", "i3", "I5", "l", "L", "d", "f", "x", " "]) for _ in range(4))
        numbers = ",".join(str(rng.randrange(-(2**40), 2**40)) for _ in range(4))
        return f"local s = struct.pack('{form}', {numbers}) local r = {{s, struct.size('{form}'), struct.unpack('{form}', s)}} for i = 3, #r do r[i] = tostring(r[i]) end return r"
    text = "".join(rng.choice('{}[]:,"\\u0123456789abtfn-+.eE xX') for _ in range(rng.randrange(1, 10)))
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'return cjson.encode(cjson.decode("{text}"))'


def start_oracle():
    directory = tempfile.mkdtemp()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = os.environ.get("VALKEY_SERVER", "valkey-server")
    server = subprocess.Popen(
        [binary, "--port", str(port), "--save", "", "--dir", directory],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, f"127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    raise SystemExit("valkey-server does not start")


def unescape(line):
    return line.replace("~", "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--oracle")
    parser.add_argument("--random", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    oracle, oracle_address = (None, options.oracle) if options.oracle else start_oracle()
    rng = random.Random(options.seed)
    requests = [["EVAL", unescape(line), "0"] for line in SCRIPTS.strip().split("\n") if line not in KNOWN]
    requests += [["FUNCTION", "LOAD", "REPLACE", unescape(f"#!lua name=l~{line}")] for line in LIBRARIES.strip().split("\n")]
    for line in COMMANDS.strip().split("\n"):
        requests.append([word.replace("~", " ").replace("\\n", "\n") for word in line.split(" ")])
    requests += [["EVAL", random_script(rng), "0"] for _ in range(options.random)]
    different = 0
    try:
        for protocol in (2, 3):
            ours, theirs = Server(options.address, protocol), Server(oracle_address, protocol)
            for server in (ours, theirs):
                server.ask(["FLUSHALL"])
                server.ask(["FUNCTION", "FLUSH"])
                server.ask(["SCRIPT", "FLUSH"])
            for request in requests:
                try:
                    expected = theirs.ask(request)
                except (EOFError, TimeoutError):
                    raise SystemExit(f"the oracle ended at {request}")
                try:
                    got = ours.ask(request)
                except (EOFError, TimeoutError):
                    got = b"(no reply)"
                    ours.connect()
                if got != expected:
                    different += 1
                    print(f"RESP{protocol} {request!r}\n  expected {expected!r}\n  got      {got!r}")
    finally:
        if oracle:
            oracle.terminate()
    print(f"{2 * len(requests)} requests, {different} different")
    sys.exit(1 if different else 0)


main()
