"""What a release consists of, held to what it says of itself.

    release.py --bills FOLDER       the bills of materials there: CycloneDX's schema, and what cargo knows of the source
    release.py --apk FILE           a package of Alpine: its data is what its control has the hash of
    release.py --binstall FOLDER    what Cargo.toml has cargo-binstall download is among the files there
    release.py --scripts WORKFLOW FOLDER   writes what its steps run there, a file a step, for shellcheck

tests/release starts it in a virtual environment with what it imports.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

from ruamel.yaml import YAML


def refuse(where, why):
    sys.exit(f"{where}: {why}")


def crates(target):
    """What the program is linked from, as `cargo tree` has it: without what runs while it is built."""
    tree = ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--target", target, "--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(tree, check=True, capture_output=True, text=True).stdout.splitlines()
    words = (line.split() for line in lines if line.strip())
    return {f"pkg:cargo/{name}@{version.removeprefix('v')}" for name, version, *_ in words}


def bills(folder):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    licenses = (folder / "LICENSES").read_text()
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    for architecture, target in map(str.split, Path("release/platforms").read_text().splitlines()):
        path = folder / f"drain-init-{architecture}.cdx.json"
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text())
        if error:
            refuse(path, error)
        bill = json.loads(path.read_text())
        program, components = bill["metadata"]["component"], bill["components"]
        of_binary = hashlib.sha256((folder / f"drain-init-{architecture}").read_bytes()).hexdigest()
        if not program["hashes"][0]["content"] == of_binary == sums[f"drain-init-{architecture}"]:
            refuse(path, "is not of the binary beside it")

        refs = [program["bom-ref"]] + [component["bom-ref"] for component in components]
        if len(set(refs)) != len(refs) or {of["ref"] for of in bill["dependencies"]} != set(refs):
            refuse(path, "its components are not those of its dependencies")
        missing = crates(target) - set(refs)
        if missing:
            refuse(path, f"cargo tree has what it has not: {missing}")
        # The rest belongs to the toolchain: std, its parts, and the C library.
        names = {component["name"] for component in components}
        for part in ("core", "alloc", "std", "compiler_builtins", "hashbrown", "musl"):
            if part not in names:
                refuse(path, f"{part} is linked and not in it")
        for part in ("proc_macro", "syn", "argh_derive", "hyper", "tokio"):
            if part in names:
                refuse(path, f"{part} is in it and not linked")
        for component in components:
            if f"{component['name']} {component['version']}" not in licenses:
                refuse(path, f"LICENSES has nothing on {component['name']}")
        print(f"{path.name}: {len(components)} components")


def apk(path):
    """Two archives one behind the other, each compressed by itself: the control, and the data."""
    data = path.read_bytes()
    control = zlib.decompressobj(wbits=31)
    hashed = re.search(rb"^datahash = ([0-9a-f]{64})$", control.decompress(data), re.MULTILINE)
    if not hashed or hashed[1].decode() != hashlib.sha256(control.unused_data).hexdigest():
        refuse(path, "its data is not what its control says")


def binstall(folder):
    metadata = tomllib.loads(Path("Cargo.toml").read_text())["package"]["metadata"]["binstall"]
    wanted = {of["pkg-url"].removeprefix("{ repo }/releases/download/v{ version }/") for of in metadata["overrides"].values()}
    bills = {path.name.removesuffix(".cdx.json") for path in folder.glob("*.cdx.json")}
    if metadata["pkg-fmt"] != "bin" or wanted != bills or not all((folder / name).is_file() for name in wanted):
        refuse("Cargo.toml", f"binstall downloads {wanted}, and released is {bills}")


def scripts(workflow, folder):
    """GitHub runs each with `bash -e`; ${{ }} in one would be put into it unquoted. An action has to be named by its commit."""
    for used in re.findall(r"uses: *(.*)", workflow.read_text()):
        if not re.match(r"\./|[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", used):
            refuse(workflow, f"{used}: not a commit, with its version behind it")
    for name, job in YAML(typ="safe").load(workflow)["jobs"].items():
        for number, step in enumerate(job.get("steps", [])):
            if "uses" in step:
                continue
            if "${{" in step["run"]:
                refuse(workflow, f"{name}: step {number} has an expression in its script")
            (folder / f"{workflow.stem}-{name}-{number}").write_text(f"#!/usr/bin/env bash\nset -e\n{step['run']}")


match sys.argv[1:]:
    case ["--bills", folder]:
        bills(Path(folder))
    case ["--apk", path]:
        apk(Path(path))
    case ["--binstall", folder]:
        binstall(Path(folder))
    case ["--scripts", workflow, folder]:
        scripts(Path(workflow), Path(folder))
    case _:
        sys.exit(__doc__.rstrip())
