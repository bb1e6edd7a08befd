#!/usr/bin/env python3
"""The released image, as an OCI image layout: one for each architecture, and the index of them all.

    image.py FOLDER VERSION EXPRESSION ARCHITECTURE=BINARY... LICENSES

It holds drain-init and the texts of the licences, nothing else, and is what Dockerfile.scratch makes: ENTRYPOINT
["/drain-init", "--"]. The same bytes from the same files, so its digest can be compared: no date, no owner, and
no compression, whose bytes are its library's.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def layer(files):
    """A tar archive of (name, mode, content)."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode, content in files:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


class Layout:
    def __init__(self, folder):
        self.blobs = folder / "blobs/sha256"
        self.blobs.mkdir(parents=True)

    def add(self, media_type, content):
        """Keeps it, and returns what refers to it."""
        data = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def main(folder, version, expression, *rest):
    *binaries, licenses = rest
    folder = Path(folder)
    layout = Layout(folder)
    about = {
        "org.opencontainers.image.title": "drain-init",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": expression,
    }
    manifests = []
    for binary in binaries:
        architecture, path = binary.split("=")
        files = [("drain-init", 0o755, Path(path).read_bytes()), ("LICENSES", 0o644, Path(licenses).read_bytes())]
        content = layout.add(LAYER, layer(files))
        config = layout.add(CONFIG, {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": ["/drain-init", "--"], "Labels": about},
            "rootfs": {"type": "layers", "diff_ids": [content["digest"]]},
        })
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [content]}
        platform = {"architecture": architecture, "os": "linux"}
        manifests.append(layout.add(MANIFEST, manifest) | {"platform": platform})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": about}
    named = layout.add(INDEX, index) | {"annotations": {"org.opencontainers.image.ref.name": version}}
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}))
    print(named["digest"])


if len(sys.argv) < 6:
    sys.exit(__doc__.rstrip())
main(*sys.argv[1:])
