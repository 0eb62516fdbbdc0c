#!/usr/bin/env python3
"""Runs units of the public suite and fails on any test that neither passes nor is listed.

    check.py --server-bin BIN --suite-dir DIR [--shards N] [--mode external|full] unit [unit ...]

A test that does not pass must stand in `later` (waits for a subsystem to come) or `known_differences` (cannot hold by
design), as `unit<TAB>test name<TAB>reason`. The name `*` stands for every test of the unit that was not reached.
Lists only shrink: a listed test that passes everywhere is reported, so that its line can go.
"""
import argparse, os, re, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LISTS = ('later', 'known_differences')


def read_list(name):
    listed = {}
    with open(os.path.join(HERE, name), encoding='utf8') as lines:
        for line in lines:
            line = line.rstrip('\n')
            if not line or line.startswith('#'):
                continue
            unit, test, reason = line.split('\t')
            assert reason, f'{name}: {test} has no reason'
            listed[unit, test] = reason
    return listed


def failures(path):
    """(unit, test) of each test that did not pass, as the score's fail file lists them."""
    with open(path, encoding='utf8', errors='replace') as lines:
        for line in lines:
            kind, _, rest = line.rstrip('\n').partition('\t')
            if kind not in ('FAIL', 'NOTREACHED', 'ABORTED', 'TIMEOUT', 'DOWN'):
                continue
            unit, _, text = rest.partition('\t')
            if kind in ('ABORTED', 'TIMEOUT', 'DOWN'):
                yield unit, f'({kind.lower()})', text
                continue
            if text.startswith('[exception]'):
                continue
            name = text.split(' in tests/')[0] if kind == 'FAIL' else re.sub(r' x\d+$', '', text)
            yield unit, re.sub(r'\b\d{4,}\b|(?<=#)\d+', 'N', name.strip()), text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('units', nargs='+')
    parser.add_argument('--server-bin', required=True)
    parser.add_argument('--suite-dir', required=True)
    parser.add_argument('--shards', type=int, default=4)
    parser.add_argument('--mode', choices=['external', 'full'], default='external')
    options = parser.parse_args()
    listed = {name: read_list(name) for name in LISTS}
    with tempfile.TemporaryDirectory() as work:
        fails = os.path.join(work, 'fails')
        server = os.path.abspath(options.server_bin)
        if options.mode == 'full':
            # The suite starts it itself, and knows nothing of shards.
            server, binary = os.path.join(work, 'server'), server
            with open(server, 'w', encoding='utf8') as script:
                script.write(f'#!/bin/sh\nexec {binary} "$@" --shards {options.shards}\n')
            os.chmod(server, 0o755)
        command = [
            sys.executable, os.path.join(HERE, 'tcl_score.py'), '--suite-dir', options.suite_dir, '--mode', options.mode,
            '--server-bin', server, '--baseline', os.path.join(HERE, f'valkey81_{options.mode}.names'),
            '--fail-out', fails, '--server-args', f'--shards {options.shards}',
        ]
        if options.mode == 'external':
            command.append('--manage')
        subprocess.run(command + options.units, check=True)
        unlisted, seen = [], set()
        for unit, test, text in failures(fails):
            if any((unit, test) in names for names in listed.values()):
                seen.add((unit, test))
            elif any((unit, '*') in names for names in listed.values()):
                seen.add((unit, '*'))
            else:
                unlisted.append((unit, test, text))
    for name, names in listed.items():
        for unit, test in names:
            if unit in options.units and (unit, test) not in seen:
                print(f'{name}: passes here with {options.shards} shards: {unit}\t{test}')
    for unit, test, text in unlisted:
        print(f'NOT LISTED  {unit}\t{test}\n            {text}')
    print(f'{options.mode}, {options.shards} shards: {len(seen)} listed, {len(unlisted)} not listed')
    sys.exit(1 if unlisted else 0)


if __name__ == '__main__':
    main()
