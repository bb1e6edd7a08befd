#!/usr/bin/env python3
"""The man page, made of what --help prints.

    man.py VERSION <src/options/help.txt >drain-init.1

Knows the form of that text, and refuses any line that has another one: nothing is left out unseen. The page has no date, so
the same text gives the same bytes.
"""

import re
import sys

# Where the text of an option begins.
COLUMN = 30


def roff(text):
    """As text: a hyphen stays one that can be searched for and copied, and no line starts a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\`").replace("'", "\\(aq")
    return "\\&" + text if text.startswith((".", "'")) else text


def items(lines):
    """Commands are `  NAME   text`. An option's text begins in its own column, and may go on below itself."""
    found = []
    for line in lines:
        if line.startswith(" " * COLUMN):
            # What is in brackets has a line of its own.
            found[-1][1] += ("\n.br\n" if line.lstrip().startswith("[") else " ") + line.strip()
        elif line.startswith("  -") and line[COLUMN - 1 : COLUMN] in ("", " "):
            found.append([line[:COLUMN].strip(), line[COLUMN:]])
        elif match := re.fullmatch(r"  (\w\S*(?: \S+)*)   *(\S.*)", line):
            found.append([match[1], match[2]])
        else:
            sys.exit(f"man.py: neither a command nor an option: {line}")
    return "".join(f".TP\n.B {roff(name)}\n{roff(text)}\n" for name, text in found)


def page(version, text):
    title, commands, *sections = text.strip("\n").split("\n\n")
    name, summary = title.split(": ")
    page = f'.TH {name.upper()} 1 "" "{name} {version}"\n.nh\n.ad l\n'
    page += f".SH NAME\n{roff(name)} \\- {roff(summary)}\n"
    page += f".SH SYNOPSIS\n{items(commands.splitlines())}.SH OPTIONS\n"
    for section in sections:
        heading, *lines = section.splitlines()
        if heading.startswith("  "):
            page += items([heading, *lines])
        elif lines[0].startswith("  "):
            heading, _, about = heading.partition(": ")
            page += f".SS {roff(heading)}\n" + (f"{roff(about[0].upper() + about[1:])}.\n" if about else "") + items(lines)
        elif heading.startswith("Exit code: "):
            page += f".SH EXIT STATUS\n{roff(' '.join([heading, *lines]))}\n"
        else:
            page += f".PP\n{roff(' '.join([heading, *lines]))}\n"
    return page


if len(sys.argv) != 2:
    sys.exit(__doc__.rstrip())
sys.stdout.write(page(sys.argv[1], sys.stdin.read()))
