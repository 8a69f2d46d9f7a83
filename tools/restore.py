#!/usr/bin/python3
"""Restores a backup from an aishell repository without aishell: a second implementation of docs/format.md, version 1.

Needs Python 3.11 or newer and, on Debian, `apt install python3-cryptography python3-zstandard`. It reads a repository in
a directory (copy a bucket into one first), checks every hash, and holds no more than a few frames of 1 MiB in memory.
"""
import base64, collections, contextlib, functools, hashlib, hmac, json, os, pathlib, re, struct, sys, unicodedata  # noqa: E401
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MANIFEST, PACK, LOG, MAX_FRAME, MAX_FOOTER, DOTS = 1, 2, 3, 1 << 20, 1 << 28, {"", ".", ".."}
USAGE = """usage: restore.py REPOSITORY INSTANCE (list | BACKUP TARGET | latest TARGET) (--key-file F | --passphrase-env NAME)
TARGET is a new or empty directory, F a key file, NAME the environment variable that holds the passphrase."""
NEXT = """Restored {name} into {target}, with the log in its pg_wal. Next: chown -R it, and {target}.tablespaces if there
is one, to the user who will run the server; touch {target}/recovery.signal; add to {target}/postgresql.auto.conf the lines
restore_command = '/bin/false', recovery_target_timeline = 'latest', archive_mode = off, and recovery_target_lsn or
recovery_target_time to stop before a mistake; start PostgreSQL {major}."""


def need(condition, message):
    if not condition:
        sys.exit(f"restore.py: {message}")


def hkdf(secret, salt, info):  # RFC 5869, for 32 bytes
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\1", "sha256")


class Repository:
    def __init__(self, root, instance, kind, secret):
        self.root, self.folder, self.keys = root, f"instances/{instance}", {}
        facts = json.loads(self.read("repository.json"))
        need(facts["format"] == 1, f"the repository has format {facts['format']}; this program reads format 1")
        need(facts["features"] == [], f"the repository uses features this program does not know: {facts['features']}")
        for key in [f"keys/{folder}/{name}" for folder in self.names("keys") for name in self.names(f"keys/{folder}")]:
            with contextlib.suppress(InvalidTag, ValueError, KeyError):  # Another secret's slot, or a damaged one: go on.
                slot = json.loads(self.read(key))
                if slot["kind"] == kind and slot["generation"] not in self.keys:
                    kdf, salt, wrapped = slot["kdf"], base64.b64decode(slot["kdf"]["salt"]), base64.b64decode(slot["wrapped"])
                    known = slot["format"] == 1 and (kind, kdf["name"]) in (("passphrase", "scrypt"), ("key-file", "hkdf-sha256"))
                    cheap = kind == "key-file" or (kdf["N"] <= 1 << 20 and kdf["r"] <= 16 and kdf["p"] <= 4)
                    need(known and cheap, f"'{key}' has an unknown form or asks for too much work: {slot['format']}, {kdf}")
                    scrypt = Scrypt(salt, 32, kdf["N"], kdf["r"], kdf["p"]) if kind == "passphrase" else None
                    wrapping = scrypt.derive(secret) if scrypt else hkdf(secret, salt, b"aishell/1/key-file")
                    place = f"aishell/1/slot/{facts['id']}/{slot['generation']}/{slot['id']}".encode()
                    self.keys[slot["generation"]] = AESGCM(wrapping).decrypt(wrapped[:12], wrapped[12:], place)
        need(self.keys, f"this {kind} opens none of the repository's key slots")

    def path(self, key):
        need(re.fullmatch(r"[A-Za-z0-9._/-]+", key) and not DOTS & set(key.split("/")), f"{key!r} is no key of an object")
        return os.path.join(self.root, key)

    def names(self, key):
        return sorted(os.listdir(self.path(key))) if os.path.isdir(self.path(key)) else []

    def read(self, key, offset=0, length=-1):
        with open(self.path(key), "rb") as file:
            file.seek(max(offset, 0))
            data = file.read(length)
        need(length in (-1, len(data)), f"'{key}' is cut off")
        return data

    @functools.lru_cache(maxsize=256)
    def header(self, key, kind):
        header = self.read(key, 0, 40)
        magic, version, found, zero, generation, flags, reserved, object_id = struct.unpack("<8sHBBIII16s", header)
        need(magic == b"AISHELL\x01" and found == kind, f"'{key}' is not the sealed object its place promises")
        need((version, flags, zero, reserved) == (1, 0, 0, 0), f"'{key}' has a format or features unknown here")
        need(generation in self.keys, f"'{key}' needs key generation {generation}, and what you gave opens no slot of it")
        return header, AESGCM(hkdf(self.keys[generation], object_id, b"aishell/1/object"))

    @functools.lru_cache(maxsize=8)
    def open(self, key, kind, n, offset, stored, raw):
        """The body of frame `n`, which must be `raw` bytes; of the footer if `n` is None, which may be shorter."""
        (header, cipher), nonce = self.header(key, kind), b"\1" + bytes(11) if n is None else struct.pack(">IQ", 0, n)
        need(n is None or (16 < stored <= 2 * MAX_FRAME and 0 <= raw <= MAX_FRAME), f"'{key}' lists an impossible frame")
        try:
            plain = cipher.decrypt(nonce, self.read(key, offset, stored), header + key.encode())
        except InvalidTag:
            need(False, f"'{key}' is damaged at byte {offset}, or was put in another's place")
        need(plain[:1] in (b"\0", b"\1"), f"'{key}' has an unknown codec at byte {offset}")
        body = zstandard.ZstdDecompressor().stream_reader(plain[1:]).read(raw + 1) if plain[0] else plain[1:]
        need(len(body) == raw or (n is None and len(body) < raw), f"'{key}' has a wrong length at byte {offset}")
        return body

    def footer(self, key, kind):
        size = os.path.getsize(self.path(key))
        length, end = struct.unpack("<I8s", self.read(key, size - 12, 12))
        need(end == b"AISHEND\x01" and 16 < length <= size - 52, f"'{key}' is cut off, or has bytes behind its end")
        footer = json.loads(self.open(key, kind, None, size - 12 - length, length, MAX_FOOTER))
        need(sum(f[0] for f in footer["frames"]) == size - 52 - length, f"'{key}' has bytes its footer does not know")
        return footer

    def bodies(self, key, kind, footer, offset=40):
        for n, (stored, raw, *_) in enumerate(footer["frames"]):
            yield self.open(key, kind, n, offset, stored, raw)
            offset += stored

    def write_file(self, packs, line, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as out:
            for length, pack, n, offset, stored, raw, start, expected in line["c"]:
                key = f"{self.folder}/packs/{packs[pack]['backup']}/{packs[pack]['id']}"
                body = self.open(key, PACK, n, offset, stored, raw)
                found = expected and base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:16]).rstrip(b"=").decode()
                need(found == expected, f"frame {n} of '{key}' has the hash {found}; the manifest says {expected}")
                need(0 <= start <= start + length <= raw, f"'{line['p']}' reaches beyond frame {n} of '{key}'")
                out.write(body[start:start + length])
            need(out.tell() == line["s"], f"'{line['p']}' has {out.tell()} bytes; the manifest says {line['s']}")

    def restore_files(self, key, footer, target):
        for pack in footer["packs"]:
            path = self.path(f"{self.folder}/packs/{pack['backup']}/{pack['id']}")
            with open(path, "rb") as file:
                facts = (hashlib.file_digest(file, "sha256").hexdigest(), file.tell())
            need(facts == (pack["sha256"], pack["sizeBytes"]), f"'{path}' is damaged: its SHA-256 and size are {facts}")
        collections.deque(self.bodies(key, MANIFEST, footer), maxlen=0)  # Opened once to the end before a file is written.
        dirs, rest = set(), b""
        for body in self.bodies(key, MANIFEST, footer):
            *lines, rest = (rest + body).split(b"\n")
            for line in map(json.loads, lines):
                kind, name = line["t"], line["p"]
                bad = DOTS & set(name.split("/")) or {"\0", "\\"} & set(name) or kind not in ("dir", "file", "config")
                need(not bad, f"the manifest holds a dangerous path or a line of an unknown kind, {line['t']} {name!r}")
                # A tablespace goes beside the data directory; the server makes the link, by tablespace_map.
                beside = ".config" if kind == "config" else ".tablespaces" if name.startswith("pg_tblspc/") else ""
                path = os.path.join(target + beside, name.removeprefix("pg_tblspc/"))
                need(name not in dirs if kind == "dir" else not os.path.exists(path), f"{name!r} is there twice")
                if kind == "dir":
                    os.makedirs(path, exist_ok=True)
                    dirs.add(name)
                else:
                    self.write_file(footer["packs"], line, path)
                os.chmod(path, line["m"] & 0o7777)
                if kind == "config":
                    print(f"{path} was {line['source']}, outside the data directory: put it where the server looks.")
        need(rest == b"", "the manifest ends within a line")
        if footer["backup"]["tablespaces"]:
            lines = (f"{space['oid']} {target}.tablespaces/{space['oid']}\n" for space in footer["backup"]["tablespaces"])
            pathlib.Path(target, "tablespace_map").write_text("".join(lines), encoding="utf-8")

    def restore_log(self, backup, target):
        """Into pg_wal: the segments from the backup's start on, of its timeline and later ones, and the history files."""
        size, start = backup["walSegmentSize"], int("{:0>8}{:0>8}".format(*backup["startLsn"].split("/")), 16)
        base, reach, h8 = f"{self.folder}/log/{backup['systemIdentifier']}", {}, "([0-9A-F]{8})"
        for name, key in [(name, f"{base}/{tli}/{name}") for tli in self.names(base) for name in self.names(f"{base}/{tli}")]:
            match = re.fullmatch(rf"{h8}(?:{h8}{h8}(\.partial|\.{h8}-{h8}\.part)?|\.history)", name)
            end = match and match[2] and (int(match[2], 16) << 32) + (int(match[3], 16) + 1) * size
            path, at = os.path.join(target, "pg_wal", name[:24] if end else name), int(match and match[5] or "0", 16)
            early, exists = end and (end <= start or int(match[1], 16) < backup["timeline"]), os.path.exists(path)
            if not match or early or (match[4] and (at > reach.get(path, -exists) or (exists and not match[5]))):
                continue  # By name come a segment, its pieces, its `.partial`: only pieces add to what is there, up to a hole.
            footer, digest = self.footer(key, LOG), hashlib.sha256()
            with open(path, "r+b" if match[5] and exists else "wb") as out:
                out.seek(at)
                out.writelines(digest.update(body) or body for body in self.bodies(key, LOG, footer))
                facts = (name, digest.hexdigest(), out.tell() - at)
                need(facts == (footer["name"], footer["sha256"], footer["sizeBytes"]), f"'{key}' is not what it says")
                reach[path] = max(reach.get(path, 0), out.tell()) if match[5] else -1
                out.truncate(size if end else None)


def main():
    need(len(sys.argv) == 7 - (sys.argv[3:4] == ["list"]) and sys.argv[-2] in ("--key-file", "--passphrase-env"), USAGE)
    root, instance, name, *target, option, secret = sys.argv[1:]
    if option == "--key-file":
        match = re.fullmatch(r"aishell-key-1:([A-Za-z0-9+/]{43}=)\s*", pathlib.Path(secret).read_text())
        need(match, f"'{secret}' is no key file: it must hold one line, aishell-key-1:<base64>")
        repository = Repository(root, instance, "key-file", base64.b64decode(match[1]))
    else:
        need(os.environ.get(secret), f"the environment variable {secret} is not set")
        repository = Repository(root, instance, "passphrase", unicodedata.normalize("NFC", os.environ[secret]).encode())
    folder = f"{repository.folder}/backups"
    ids = repository.names(folder)
    if name in ("list", "latest"):
        ids.sort(key=lambda id: repository.footer(f"{folder}/{id}", MANIFEST)["backup"]["stopTime"])
    if name == "list":
        return print(*ids, sep="\n")
    name, target = ids[-1] if ids and name == "latest" else name, os.path.abspath(target[0])
    need(name in ids, f"there is no backup '{name}' of an instance '{instance}'; there are: {', '.join(ids) or 'none'}")
    backup = (footer := repository.footer(f"{folder}/{name}", MANIFEST))["backup"]
    need(backup["engine"] == "postgresql", f"this program restores PostgreSQL, not {backup['engine']}")
    os.umask(0o077)
    os.makedirs(target, exist_ok=True)
    used = [path for path in (f"{target}.config", f"{target}.tablespaces") if os.path.exists(path)] + os.listdir(target)
    need(not used, f"'{target}' is not empty, or what would go beside it exists: {', '.join(used[:3])}")
    repository.restore_files(f"{folder}/{name}", footer, target)
    repository.restore_log(backup, target)
    os.sync()
    print(NEXT.format(name=name, target=target, major=backup["serverVersion"] // 10000))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError, IndexError, TypeError, zstandard.ZstdError) as error:
        need(False, str(error) if isinstance(error, OSError) else f"the repository is not understood: {error!r}")
