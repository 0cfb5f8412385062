#!/usr/bin/env python3
"""Checks licences and banned crates of everything that is built, by deny.toml and `cargo metadata`: what `cargo deny check licenses
bans` does, without building it."""
import json, re, subprocess, sys, tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def allows(expression, allowed):
    """Whether an SPDX expression can be met. The old form `MIT/Apache-2.0` means OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def either():
        nonlocal at
        met = both()
        while at < len(tokens) and tokens[at] == "OR":
            at += 1
            met = both() or met
        return met

    def both():
        nonlocal at
        met = one()
        while at < len(tokens) and tokens[at] == "AND":
            at += 1
            met = one() and met
        return met

    def one():
        nonlocal at
        token = tokens[at]
        at += 1
        if token == "(":
            met = either()
            at += 1
            return met
        if at < len(tokens) and tokens[at] == "WITH":
            token = f"{token} WITH {tokens[at + 1]}"
            at += 2
        return token in allowed

    return either() and at == len(tokens)

def problems(packages, rules):
    allowed, banned = set(rules["licenses"]["allow"]), {rule["crate"] for rule in rules["bans"]["deny"]}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["name"] in banned:
            yield f"{name} is banned by deny.toml"
        if not package.get("license"):
            yield f"{name} states no licence"
        elif not allows(package["license"], allowed):
            yield f"{name}: licence {package['license']} is not allowed by deny.toml"
        if package["source"] is None:
            yield from (f"{name}: any version of {dependency['name']}" for dependency in package["dependencies"]
                        if dependency["req"] == "*" and not dependency.get("path"))

def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in used]
    found = sorted(problems(packages, rules))
    print("\n".join(found) or f"{len(packages)} packages, all licences allowed, none banned")
    return bool(found)

if __name__ == "__main__":
    assert allows("MIT OR GPL-3.0", {"MIT"}) and not allows("MIT AND GPL-3.0", {"MIT"}) and allows("(A OR B) AND C", {"B", "C"})
    sys.exit(main())
