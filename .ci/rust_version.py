"""Fails if a dependency needs a newer Rust than the crate promises. Reads cargo's metadata."""

import json
import sys

metadata = json.load(sys.stdin)
root = metadata["resolve"]["root"]


def version(text):
    return tuple(int(part) for part in (text.split(".") + ["0", "0"])[:3])


packages = {package["id"]: package for package in metadata["packages"]}
promised = packages[root]["rust_version"]
newer = [
    f'{package["name"]} {package["version"]} needs Rust {package["rust_version"]}'
    for package in packages.values()
    if package["rust_version"] and version(package["rust_version"]) > version(promised)
]
print(f"{len(packages)} packages against Rust {promised}")
if newer:
    sys.exit("\n".join(newer))
