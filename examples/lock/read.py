#!/usr/bin/env python3
"""Reads an agent.lock of version 2, by docs/agent-lock.md alone: a second reader, for other programs.

    read.py agent.lock --passphrase-file FILE [LAYER]
    read.py agent.lock --identity FILE [LAYER]          (by the program `age`)

Needs cryptography >= 50; zstd, the program, for the layer `memory`.
"""

import argparse
import base64
import hashlib
import hmac
import json
import subprocess
import sys

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

MOST_LAYER = 32 << 20


class Refused(Exception):
    """Why the file is not taken."""


def expand(key, info):
    return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info).derive(key)


def opened(key, context, sealed):
    """Decrypts by c2sp.org/chunked-encryption, Cobblestone-256; None when it is not what was sealed."""
    decryptor = Cobblestone256Decryptor(key, context)
    try:
        return decryptor.update(sealed) + decryptor.finalize()
    except (InvalidTag, ValueError):
        return None


def canonical(value):
    """RFC 8785, for texts in ASCII and whole numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def rendered(lock):
    """The file in the one spelling that counts."""

    def line(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def lines(items):
        return ",\n".join(line(item) for item in items)

    end = f',"written":{line(lock["written"])}'
    if "signature" in lock:
        end += f',"signature":{line(lock["signature"])}'
    return (
        f'{{"version":{lock["version"]},"agent":{line(lock["agent"])},"epoch":{lock["epoch"]},'
        f'"rootEpoch":{lock["rootEpoch"]},"recipients":[\n{lines(lock["recipients"])}\n],'
        f'"layers":[\n{lines(lock["layers"])}\n],"writers":[\n{lines(lock["writers"])}\n],'
        f'"mac":{line(lock["mac"])}{end}}}\n'
    )


def header(lock):
    """What the MAC is over: all but the MAC and the signatures, layers by hash."""
    names = ("version", "agent", "epoch", "rootEpoch", "recipients", "writers")
    fields = {name: lock[name] for name in names}
    fields["layers"] = [
        {"name": it["name"], "epoch": it["epoch"], "sha256": hashlib.sha256(it["sealed"].encode()).hexdigest()}
        for it in lock["layers"]
    ]
    return fields


def check_signature(lock):
    """Whether the publisher that it names signed it. Whose key that is, nobody says here."""
    signature = lock.get("signature")
    if signature is None:
        return
    publisher = signature["publisher"]
    fields = header(lock) | {"mac": lock["mac"], "publisher": publisher}
    text = b"skep agent.lock v2 signature\0" + canonical(fields)
    public(publisher).verify(base64.b64decode(signature["value"], validate=True), text)


def public(text):
    """The key of `skepsig1_…`."""
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(text.removeprefix("skepsig1_") + "="))


def check_writers(lock):
    """Each key was handed on by the one before, and the last wrote this. Which is the right one, nobody says here."""
    before = None
    for writer in lock["writers"]:
        if (before is None) == ("by" in writer):
            raise Refused("the writers do not follow each other")
        if before is not None:
            by = base64.b64decode(writer["by"], validate=True)
            what = "writer", lock["agent"]["id"], str(writer["epoch"]), writer["key"]
            before.verify(by, ("skep agent.lock v2 " + "\0".join(what)).encode())
        before = public(writer["key"])
    if before is None or lock["writers"][-1]["epoch"] != lock["rootEpoch"]:
        raise Refused("the last writer is not of the root's epoch")
    text = b"skep agent.lock v2 written\0" + canonical(header(lock) | {"mac": lock["mac"]})
    before.verify(base64.b64decode(lock["written"], validate=True), text)


def purpose(lock, what, epoch):
    parts = ["skep agent.lock v2 " + what, lock["agent"]["id"], str(epoch)]
    return "\0".join(parts).encode()


def unwrapped(lock, recipient, passphrase, identity):
    """The bytes that are wrapped for a recipient, or None when this is not its key."""
    wrapped, opens = base64.b64decode(recipient["wrapped"], validate=True), recipient["opens"]
    if opens["with"] == "age":
        if identity is None:
            return None
        run = subprocess.run(["age", "-d", "-i", identity], input=wrapped, capture_output=True)
        return run.stdout if run.returncode == 0 else None
    if passphrase is None:
        return None
    salt = base64.b64decode(opens["salt"], validate=True)
    if opens["with"] == "argon2id":
        if not 64 << 10 <= opens["memoryKib"] <= 1 << 20 or not 3 <= opens["passes"] <= 16:
            raise Refused("the parameters for the passphrase's key are not acceptable")
        kdf = Argon2id(
            salt=salt,
            length=32,
            iterations=opens["passes"],
            lanes=opens["lanes"],
            memory_cost=opens["memoryKib"],
        )
        key = kdf.derive(passphrase)
    else:
        if not 600_000 <= opens["rounds"] <= 10_000_000:
            raise Refused("the parameters for the passphrase's key are not acceptable")
        key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, opens["rounds"])
    context = purpose(lock, "recipient\0" + recipient["name"], lock["rootEpoch"])
    return opened(key, context, wrapped)


def keys_of(lock, recipient, grant):
    """The key of the header's MAC, and a function from the name of a layer to its key."""
    root_epoch = lock["rootEpoch"]
    parts = [grant[at : at + 32] for at in range(1, len(grant), 32)]
    if recipient.get("may") != "read":
        parts.pop()  # The key to write with, which a reader has no use for.
    if "layers" not in recipient:
        if len(grant) % 32 != 1 or len(parts) != 1 or grant[0] != 0:
            raise Refused("what is wrapped is not the root")
        mac = expand(parts[0], purpose(lock, "mac", root_epoch))
        return mac, lambda name: expand(parts[0], purpose(lock, "layer\0" + name, root_epoch))
    if grant[0] != 1 or len(grant) % 32 != 1 or len(parts) != 1 + len(recipient["layers"]):
        raise Refused("what is wrapped is not the keys of these layers")
    return parts[0], dict(zip(recipient["layers"], parts[1:])).get


def content(lock, layer, key):
    """The entries of a layer."""
    context = purpose(lock, "layer\0" + layer["name"], layer["epoch"])
    plain = opened(key, context, base64.b64decode(layer["sealed"], validate=True))
    if plain is None:
        raise Refused(f"the layer {layer['name']} was changed")
    if layer["name"] == "memory":
        # It stops one byte over what may be.
        command = f"zstd -dcq --memory=128MB | head -c {MOST_LAYER + 1}"
        plain = subprocess.run(["sh", "-c", command], input=plain, capture_output=True).stdout
        if len(plain) > MOST_LAYER:
            raise Refused("the memory expands to too much")
    return json.loads(plain)


def read(path, passphrase, identity):
    """Every layer that the key opens, by name."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read((64 << 20) + 1)
    lock = json.loads(text)
    if lock["version"] != 2 or rendered(lock) != text:
        raise Refused("it is no agent.lock of version 2, or not in its spelling")
    check_signature(lock)
    check_writers(lock)
    for recipient in lock["recipients"]:
        grant = unwrapped(lock, recipient, passphrase, identity)
        if not grant:
            continue
        mac, key_of = keys_of(lock, recipient, grant)
        expected = hmac.digest(mac, canonical(header(lock)), "sha256")
        if not hmac.compare_digest(expected, base64.b64decode(lock["mac"], validate=True)):
            raise Refused("the header was changed, or put together of several files")
        keys = [(layer, key_of(layer["name"])) for layer in lock["layers"]]
        return {layer["name"]: content(lock, layer, key) for layer, key in keys if key}
    raise Refused("the key is wrong: it is none of this file's recipients'")


def main():
    parser = argparse.ArgumentParser(description="Reads an agent.lock.")
    parser.add_argument("file")
    parser.add_argument("layer", nargs="?")
    parser.add_argument("--passphrase-file")
    parser.add_argument("--identity")
    args = parser.parse_args()
    passphrase = None
    if args.passphrase_file:
        with open(args.passphrase_file, "rb") as file:
            passphrase = file.read().rstrip(b"\r\n")
    try:
        layers = read(args.file, passphrase, args.identity)
        shown = layers if args.layer is None else layers[args.layer]
    except Refused as error:
        sys.exit(f"error: {error}")
    except Exception as error:  # What is not expected is told by its kind: its text may hold secrets.
        sys.exit(f"error: it is no agent.lock that can be read: {type(error).__name__}")
    print(json.dumps(shown, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
