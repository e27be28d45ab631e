# SPDX-License-Identifier: Apache-2.0
"""Tables of medians and ratios, as text and as markdown."""
import datetime
import os
import pathlib
import platform


def machine():
    cpu = next((line.split(':')[1].strip() for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines()
                if line.startswith('model name')), platform.machine())
    memory_kib = int(pathlib.Path('/proc/meminfo').read_text().split()[1])
    return f'{os.cpu_count()} x {cpu}, {memory_kib / 1048576:.0f} GiB, Linux {platform.release()}'


def heading(storage, options, versions):
    lines = [f'Date: {datetime.date.today()}', f'Machine: {machine()}', f'Storage: {storage}',
             f'Rounds: {options.rounds}, scale: {options.scale:g}']
    return lines + [f'{name}: {text}' for name, text in versions]


def cell(value_s, base_s):
    """Seconds, and how many times the base's they are."""
    if value_s is None:
        return '-'
    text = f'{value_s:.2f}'
    return f'{text} (x{value_s / base_s:.2f})' if base_s else text


def base_of(rows):
    return next((row for row in rows if row.name == 'drover'), rows[0])


def columns(scenario, rows):
    """Titles, and a function from a row to its cells."""
    base = base_of(rows)
    phases = [phase for phase in ('cold', 'warm') if any(row.samples(phase) for row in rows)]
    parts = [(f'{phase}: {title}' if len(phases) > 1 or phase == 'cold' else title, phase, what)
             for phase in phases for title, what in (('exits', 'exit_s'), ('on disk', 'disk_s'))
             if what == 'exit_s' or scenario.on_disk]
    titles = ['tool', *(title for title, _, _ in parts), 'CPU s', 'peak MiB', 'runs']
    if scenario.traffic:
        titles += ['read MiB', 'written MiB']
    if scenario.files:
        titles.append('operations a file')
    titles.append('loses')

    def cells(row):
        first = 'cold' if row.cold else 'warm'
        shown = [row.name, *(cell(row.median(phase, what), base.median(phase, what)) for _, phase, what in parts),
                 f'{row.median(first, "cpu_s") or 0:.1f}', f'{row.largest_rss_mib():.0f}',
                 str(len(row.samples(first)))]
        if scenario.traffic:
            shown += [f'{row.median(first, what) or 0:.0f}' for what in ('read_mib', 'written_mib')]
        if scenario.files:
            shown.append(f'{(row.median(first, "operations") or 0) / scenario.files:.1f}')
        return shown + [row.losses()]
    return titles, cells


def table(scenario, rows):
    """As lists of cells, the titles first."""
    titles, cells = columns(scenario, rows)
    return [titles] + [cells(row) for row in rows]


def text(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return '\n'.join('  '.join(word.ljust(width) if column in (0, len(widths) - 1) else word.rjust(width)
                               for column, (word, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def markdown(lines):
    rule = ['---'] + ['--:'] * (len(lines[0]) - 2) + ['---']
    lines = [[word.replace('|', '\\|') for word in line] for line in lines]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [lines[0], rule, *lines[1:]])
