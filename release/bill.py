#!/usr/bin/env python3
"""What a released binary is made of.

    bill.py cyclonedx UNITS BINARY     its bill of materials, CycloneDX 1.6 in JSON
    bill.py licenses UNITS...          the texts that go with copies of them
    bill.py expression UNITS...        the licences of all that, as SPDX has it

UNITS is what cargo says that it compiles for one (dist.sh writes it): the crates of drain-init, and those that std is
rebuilt from. What runs while it is built (macros, build scripts) is not in it. Linked besides is musl, as the toolchain
has it. The same bytes from the same source: no date, no random number.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import uuid
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUST = "https://github.com/rust-lang/rust"


class Crate:
    def __init__(self, unit, toolchain, locked):
        self.features = unit["features"]
        self.folder = next(p for p in Path(unit["target"]["src_path"]).parents if (p / "Cargo.toml").exists())
        package = tomllib.loads((self.folder / "Cargo.toml").read_text())["package"]
        self.name = package["name"]
        self.of_std = unit["pkg_id"].startswith("path+") and self.folder != ROOT
        # The crates of std's own repository have no version of their own.
        self.version = toolchain if self.of_std else package["version"]
        self.license = package["license"].replace("/", " OR ")
        if self.of_std and self.name == "core":
            # Its tables of characters.
            self.license = f"({self.license}) AND Unicode-3.0"
        self.checksum = None
        if unit["pkg_id"].startswith("registry+"):
            self.checksum = locked[self.name, self.version]

    @cached_property
    def purl(self):
        if self.of_std:
            return f"pkg:github/rust-lang/rust@{self.version}#library/{self.folder.name}"
        return f"pkg:cargo/{self.name}@{self.version}"

    def component(self):
        component = {
            "type": "library",
            "bom-ref": self.purl,
            "name": self.name,
            "version": self.version,
            "licenses": [{"expression": self.license}],
            "purl": self.purl,
        }
        if self.checksum:
            component["hashes"] = [{"alg": "SHA-256", "content": self.checksum}]
        if self.of_std:
            component["cpe"] = f"cpe:2.3:a:rust-lang:rust:{self.version}:*:*:*:*:*:*:*"
            component["externalReferences"] = [{"type": "vcs", "url": RUST}]
        return component


class Program:
    """The binary as cargo compiles it: its crates, and which uses which."""

    def __init__(self, path):
        graph = json.loads(Path(path).read_text())
        self.units = graph["units"]
        (self.root,) = graph["roots"]
        self.target = self.units[self.root]["platform"]
        (std,) = (u["target"]["src_path"] for u in self.units if u["target"]["name"] == "std")
        sysroot = Path(std.split("/lib/rustlib/")[0])
        said = subprocess.run([sysroot / "bin/rustc", "--version"], check=True, capture_output=True, text=True).stdout
        self.toolchain = said.split()[1]
        locked = {}
        for lock in (ROOT / "Cargo.lock", sysroot / "lib/rustlib/src/rust/library/Cargo.lock"):
            for package in tomllib.loads(lock.read_text())["package"]:
                if "checksum" in package:
                    locked[package["name"], package["version"]] = package["checksum"]
        self.uses = {}
        left = [self.root]
        while left:
            index = left.pop()
            if index not in self.uses:
                self.uses[index] = [d["index"] for d in self.units[index]["dependencies"] if self.is_linked(d)]
                left += self.uses[index]
        self.crates = {index: Crate(self.units[index], self.toolchain, locked) for index in self.uses}
        self.musl = musl(sysroot / "lib/rustlib" / self.target / "lib/self-contained/libc.a")

    def is_linked(self, dependency):
        unit = self.units[dependency["index"]]
        # Every crate is said to use all crates of the toolchain: what is used is what std uses.
        implied = dependency["noprelude"] and dependency["extern_crate_name"] != "std"
        return unit["platform"] == self.target and unit["mode"] == "build" and not implied

    def linked(self):
        """Each once, in one order; the program itself is not among them."""
        crates = {crate.purl: crate for index, crate in self.crates.items() if index != self.root}
        return [crates[purl] for purl in sorted(crates)]


def musl(archive):
    versions = set(re.findall(rb"\0(1\.[0-9]+\.[0-9]+)\0", archive.read_bytes()))
    if len(versions) != 1:
        sys.exit(f"{archive}: which musl is it? {versions}")
    version = versions.pop().decode()
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/musl@{version}",
        "name": "musl",
        "version": version,
        "licenses": [{"license": {"id": "MIT"}}],
        "purl": f"pkg:generic/musl@{version}",
        "cpe": f"cpe:2.3:a:musl-libc:musl:{version}:*:*:*:*:*:*:*",
    }


def cyclonedx(program, binary):
    data = Path(binary).read_bytes()
    package = program.crates[program.root]
    uses = {}
    for index, used in program.uses.items():
        uses.setdefault(program.crates[index].purl, set()).update(program.crates[u].purl for u in used)
    for crate in program.crates.values():
        # Where the crates meet the C library.
        if crate.name == "libc":
            uses[crate.purl].add(program.musl["bom-ref"])
    uses[program.musl["bom-ref"]] = set()
    architecture = program.target.split("-")[0]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(data).hexdigest()).urn,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": package.purl,
                "name": package.name,
                "version": package.version,
                "licenses": [{"expression": package.license}],
                "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}],
                "purl": package.purl,
                "properties": [{"name": "architecture", "value": architecture}],
            },
        },
        "components": [crate.component() for crate in program.linked()] + [program.musl],
        "dependencies": [{"ref": ref, "dependsOn": sorted(uses[ref])} for ref in sorted(uses)],
        "compositions": [{"aggregate": "complete", "assemblies": [package.purl]}],
    }


def text_of(crate):
    """Of several licences to choose from, the MIT one."""
    # Crates that are part of std's repository keep their licence text one folder up.
    folders = [crate.folder, crate.folder.parent] if crate.of_std else [crate.folder]
    for folder in folders:
        found = sorted(p for p in folder.iterdir() if p.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")))
        mit = [p for p in found if "MIT" in p.name.upper()] or [p for p in found if "APACHE" not in p.name.upper()]
        if mit:
            return "\n\n".join(p.read_text().strip() for p in mit)
    if crate.of_std:
        return (ROOT / "release/LICENSE-std").read_text().strip()
    sys.exit(f"{crate.folder}: {crate.name} has no text of its licence")


def licenses(programs):
    by_text = {}
    for program in programs:
        for crate in program.crates.values():
            by_text.setdefault(text_of(crate), set()).add(f"{crate.name} {crate.version}")
        musl = (ROOT / "release/LICENSE-musl").read_text().strip()
        by_text.setdefault(musl, set()).add(f"musl {program.musl['version']}")
    parts = sorted((", ".join(sorted(names)), text) for text, names in by_text.items())
    line = "=" * 80
    return "\n\n".join(f"{line}\n{names}\n{line}\n\n{text}" for names, text in parts) + "\n"


def expression(programs):
    """Each that is met, once: of what is linked together all count."""
    found = {"MIT"}  # musl's
    for program in programs:
        for crate in program.crates.values():
            found.update(part.strip("()") for part in crate.license.split(" AND "))
    return " AND ".join(f"({part})" if " OR " in part else part for part in sorted(found))


def main(arguments):
    match arguments:
        case ["cyclonedx", units, binary]:
            print(json.dumps(cyclonedx(Program(units), binary), indent=2))
        case ["licenses", *units] if units:
            print(licenses([Program(path) for path in units]), end="")
        case ["expression", *units] if units:
            print(expression([Program(path) for path in units]))
        case _:
            sys.exit(__doc__.rstrip())


main(sys.argv[1:])
