//! What the functions of `redis.*` share with whoever runs scripts: the host of the script that runs, and its settings.
//!
//! A function in Lua's hands finds it by an upvalue, so a state's context stays where it is as long as the state lives.
//! The host is lent for one run: [`Owner::with_host`] forgets it before its lifetime ends.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::host::{Host, Interrupt};
use super::library::Draft;
use super::lua::{Lua, REGISTRY, RawDebug, RawState, Type, upvalue};
use super::random::Random;
use crate::resp::reply::Protocol;

/// Instructions between two looks at whether the script is to end.
const HOOK_INSTRUCTIONS: i32 = 100_000;

#[derive(Default)]
pub struct Context {
    host: Option<NonNull<dyn Host>>,
    /// Of the replies to the script's calls: `redis.setresp`.
    pub protocol: Protocol,
    /// Where replies are put together, call after call.
    pub reply: Vec<u8>,
    pub random: Random,
    /// A library that is being loaded.
    pub draft: Option<Draft>,
    /// The script was told to end; it must not be able to go on after `pcall`.
    killed: Option<&'static str>,
}

/// Key of the context in the registry, for the hook.
static IN_REGISTRY: u8 = 0;

/// A state's context, where the state's functions find it.
pub struct Owner(NonNull<Context>);

// SAFETY: nobody else has the context but the state's functions, which run on the thread of the state's owner; a host is
// in it only while one of them runs.
unsafe impl Send for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: it was a box, and the state that knows of it is closed before (`Machine`).
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Owner {
    /// The context of a new state.
    pub fn install(lua: Lua) -> Owner {
        let owner = Owner(NonNull::from(Box::leak(Box::<Context>::default())));
        lua.push_light((&raw const IN_REGISTRY).cast_mut().cast());
        owner.push(lua);
        lua.raw_set(REGISTRY);
        lua.set_hook(Some(on_hook), HOOK_INSTRUCTIONS);
        owner
    }

    /// Pushes what a function finds it by.
    pub fn push(&self, lua: Lua) {
        lua.push_light(self.0.as_ptr().cast());
    }

    /// While no script runs.
    pub fn get(&mut self) -> &mut Context {
        // SAFETY: it lives as long as its owner, and the only others who look at it run inside `with_host`.
        unsafe { self.0.as_mut() }
    }

    /// Lends the host to the script that `run` runs.
    pub fn with_host<R>(&mut self, host: &mut dyn Host, run: impl FnOnce() -> R) -> R {
        let lent: NonNull<dyn Host + '_> = NonNull::from(host);
        let context = self.get();
        // SAFETY: only the lifetime is erased, and the pointer is forgotten below, before it ends. `run` runs scripts,
        // and these reach the host through `host()` alone.
        context.host = Some(unsafe { std::mem::transmute::<NonNull<dyn Host + '_>, NonNull<dyn Host>>(lent) });
        context.protocol = Protocol::Resp2;
        let result = run();
        self.get().host = None;
        result
    }
}

impl Context {
    /// The context of the running function, whose first upvalue it is. One function at a time holds it.
    pub fn of<'a>(lua: Lua) -> &'a mut Context {
        debug_assert!(lua.type_of(upvalue(1)) == Type::LightUserdata, "made with its context");
        // SAFETY: functions that ask for it got the pointer of `push` as their first upvalue; the box lives as long as
        // the state, and Lua runs one function at a time, which lets go of the context before it calls back.
        unsafe { &mut *lua.pointer(upvalue(1)).cast::<Context>() }
    }

    /// The host, while a script runs.
    pub fn host(&mut self) -> Option<&mut dyn Host> {
        // SAFETY: it is there during `with_host` only, whose caller has lent it.
        self.host.map(|mut host| unsafe { host.as_mut() })
    }

    /// Back to normal after a script that was killed.
    pub fn revive(&mut self, lua: Lua) {
        if self.killed.take().is_some() {
            lua.set_hook(Some(on_hook), HOOK_INSTRUCTIONS);
        }
    }
}

/// Lua calls it now and then: the script may have to end.
// SAFETY: called by Lua only, with a live state.
unsafe extern "C-unwind" fn on_hook(state: *mut RawState, _: *mut RawDebug) {
    // SAFETY: as above.
    let lua = unsafe { Lua::of_hook(state) };
    if !lua.has_room(4) {
        return;
    }
    lua.push_light((&raw const IN_REGISTRY).cast_mut().cast());
    lua.raw_get(REGISTRY);
    // SAFETY: as in `of`: nobody holds the context while Lua's own code runs.
    let context = unsafe { &mut *lua.pointer(-1).cast::<Context>() };
    lua.pop(1);
    if context.killed.is_none()
        && let Some(host) = context.host()
        && let Interrupt::Kill(text) = host.interrupt()
    {
        context.killed = Some(text);
        // From now on at every instruction: nothing that the script catches helps it.
        lua.set_hook(Some(on_hook), 1);
    }
    if let Some(text) = context.killed {
        super::convert::push_error_table(lua, text.as_bytes());
        lua.raise();
    }
}
