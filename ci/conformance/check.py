#!/usr/bin/env python3
"""Runs units of the public suite and fails on any test that neither passes nor is listed.

    check.py --server-bin BIN --suite-dir DIR [--shards N] [--mode external|full] unit [unit ...]

A test that does not pass must stand in `later` (waits for a subsystem to come) or `known_differences` (cannot hold by
design), as `unit<TAB>test name<TAB>reason`; `full:unit` holds in full mode only. The name `*` stands for every test of
the unit that was not reached. A line is one cause: where it shows in several tests, their names stand between ` | `.
With a fourth column names are patterns, and what a test says when it fails must match that column, a pattern, too (or
one of several). A test whose reason begins with `skipped: ` is not run, as it leaves a server behind on which others fail.

In full mode a test that fails for Valkey itself on such a machine (it is not in the baseline) is passed over.
Lists only shrink: a listed test that passes everywhere is reported, so that its line can go.
"""
import argparse, collections, fnmatch, os, re, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LISTS = ('later', 'known_differences')
# Blocks of tests that need another server as a replica: what fails there takes the rest of the unit along.
TAGS = {'external': '-large-memory', 'full': '-large-memory -repl -needs:repl'}

Line = collections.namedtuple('Line', 'list unit tests reason how')
Failure = collections.namedtuple('Failure', 'kind unit test text')


def read_list(name, mode):
    with open(os.path.join(HERE, name), encoding='utf8') as lines:
        for line in lines:
            line = line.rstrip('\n')
            if not line or line.startswith('#'):
                continue
            unit, test, reason, *how = line.split('\t')
            assert reason, f'{name}: {test} has no reason'
            of, _, unit = unit.rpartition(':')
            if of in ('', mode):
                yield Line(name, unit, tuple(test.split(' | ')), reason, how[0] if how else None)


def covering(line, failure):
    """The name in the line that stands for the test that failed, if any does."""
    if line.unit != failure.unit:
        return None
    if line.how:
        if not any(fnmatch.fnmatchcase(failure.text, how) for how in line.how.split(' | ')):
            return None
        return next((test for test in line.tests if fnmatch.fnmatchcase(failure.test, test)), None)
    if failure.test in line.tests:
        return failure.test
    return '*' if '*' in line.tests and failure.kind == 'NOTREACHED' else None


def failures(path):
    """Each test that did not pass, as the score's fail file lists them: what is said further begins with a tab."""
    with open(path, encoding='utf8', errors='replace') as file:
        entries = re.split(r'\n(?!\t|\n)', file.read())
    for entry in entries:
        kind, _, rest = entry.partition('\t')
        if kind not in ('FAIL', 'NOTREACHED', 'ABORTED', 'TIMEOUT', 'DOWN'):
            continue
        unit, _, text = rest.partition('\t')
        first = text.split('\n')[0]
        if kind in ('ABORTED', 'TIMEOUT', 'DOWN'):
            yield Failure(kind, unit, f'({kind.lower()})', text)
            continue
        if text.startswith('[exception]'):
            continue
        name = first.split(' in tests/')[0] if kind == 'FAIL' else re.sub(r' x\d+$', '', first)
        yield Failure(kind, unit, re.sub(r'\b\d{4,}\b|(?<=#)\d+', 'N', name.strip()), text)


def read_baseline(path):
    with open(path, encoding='utf8') as lines:
        return {tuple(line.rstrip('\n').split('\t', 1)) for line in lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('units', nargs='+')
    parser.add_argument('--server-bin', required=True)
    parser.add_argument('--suite-dir', required=True)
    parser.add_argument('--shards', type=int, default=4)
    parser.add_argument('--mode', choices=['external', 'full'], default='external')
    parser.add_argument('--logs', help='keep what the suite prints of each unit here')
    options = parser.parse_args()
    lines = [line for name in LISTS for line in read_list(name, options.mode)]
    baseline_path = os.path.join(HERE, f'valkey81_{options.mode}.names')
    baseline = read_baseline(baseline_path)
    with tempfile.TemporaryDirectory() as work:
        fails = os.path.join(work, 'fails')
        server = os.path.abspath(options.server_bin)
        if options.mode == 'full':
            # The suite starts it itself, and knows nothing of shards.
            server, binary = os.path.join(work, 'server'), server
            with open(server, 'w', encoding='utf8') as script:
                # Behind the arguments of a test that wants to see what is said of them, this would be one of them.
                script.write(f'#!/bin/sh\n[ -f "$1" ] || exec {binary} "$@"\nexec {binary} "$@" --shards {options.shards}\n')
            os.chmod(server, 0o755)
        command = [
            sys.executable, os.path.join(HERE, 'tcl_score.py'), '--suite-dir', options.suite_dir, '--mode', options.mode,
            '--server-bin', server, '--baseline', baseline_path,
            '--fail-out', fails, '--server-args', f'--shards {options.shards}', f'--tags={TAGS[options.mode]}',
        ]
        if options.mode == 'external':
            command.append('--manage')
        if options.logs:
            command += ['--logs', options.logs]
        for line in lines:
            if line.unit in options.units and line.reason.startswith('skipped: '):
                command += [word for test in line.tests for word in ('--skip', test)]
        subprocess.run(command + options.units, check=True)
        unlisted, seen, covered = [], set(), 0
        for failure in failures(fails):
            if options.mode == 'full' and failure.kind == 'FAIL' and (failure.unit, failure.test) not in baseline:
                continue
            by = [(line, test) for line in lines if (test := covering(line, failure))]
            seen.update(by)
            covered += bool(by)
            if not by:
                unlisted.append(failure)
    for line in lines:
        if line.unit in options.units and not line.reason.startswith('skipped: '):
            for test in (test for test in line.tests if (line, test) not in seen):
                print(f'{line.list}: passes here with {options.shards} shards: {line.unit}\t{test}')
    for failure in unlisted:
        print(f'NOT LISTED  {failure.unit}\t{failure.test}\n            {failure.text}')
    print(f'{options.mode}, {options.shards} shards: {covered} listed, {len(unlisted)} not listed')
    sys.exit(1 if unlisted else 0)


if __name__ == '__main__':
    main()
