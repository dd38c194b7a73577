#!/usr/bin/env python3
"""Writes OCI layouts, a good one and hostile ones, into folders of the directory given: NAME/index.json, NAME/blobs/sha256/…"""
import gzip, hashlib, io, json, os, platform, struct, sys, tarfile

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OTHER = "arm64" if ARCH == "amd64" else "amd64"



def elf(machine, code):
    """The smallest static program: one loadable segment that holds the headers and the code."""
    base, size = 0x400000, 64 + 56 + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code


# A program that waits for ever: pause on amd64, ppoll of nothing on arm64.
IDLE = {
    "amd64": elf(62, bytes.fromhex("b822000000" "0f05" "ebf7")),
    "arm64": elf(183, bytes.fromhex("000080d2" "010080d2" "020080d2" "030080d2" "280980d2" "010000d4" "faffff17")),
}[ARCH]


def entry(name, kind=tarfile.REGTYPE, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for k, v in fields.items():
        setattr(info, k, v)
    return info, data


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layout(root, name, layer, arch=ARCH, packed=None, spoil=None):
    """Writes a layout of one layer; packed is the blob in place of the plain archive, spoil changes the files afterwards."""
    path = os.path.join(root, name)
    blobs = os.path.join(path, "blobs", "sha256")
    os.makedirs(blobs)

    def blob(media, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as f:
            f.write(data)
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}

    layers = [blob("application/vnd.oci.image.layer.v1.tar" + ("+gzip" if packed else ""), packed or layer)]
    config = blob("application/vnd.oci.image.config.v1+json", json.dumps(
        {"architecture": arch, "os": "linux", "config": {"Cmd": ["/idle"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode())
    manifest = blob("application/vnd.oci.image.manifest.v1+json", json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}).encode())
    manifest["platform"] = {"os": "linux", "architecture": arch}
    with open(os.path.join(path, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion": "1.0.0"}')
    with open(os.path.join(path, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [manifest]}, f)
    if spoil:
        spoil(os.path.join(path, "index.json"), os.path.join(blobs, layers[0]["digest"].removeprefix("sha256:")))


def bomb():
    """A few hundred KiB that say they are one file of 8 GiB of zeros, in gzip members of 32 MiB each."""
    header = tarfile.TarInfo("zeros")
    header.size = 8 << 30
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT), mtime=0) + gzip.compress(bytes(32 << 20), 9, mtime=0) * 256


def changed(_, blob):
    """Another content under the same digest, the archive itself intact."""
    with open(blob, "r+b") as f:
        f.seek(tarfile.BLOCKSIZE)
        f.write(b"HELLO")


def leads_out(_, blob):
    os.remove(blob)
    os.symlink("/etc/shadow", blob)


def index_is_pipe(index, _):
    os.remove(index)
    os.mkfifo(index)


def index_is_huge(index, _):
    os.truncate(index, 64 << 20)


def index_climbs(index, _):
    with open(index) as f:
        text = f.read()
    with open(index, "w") as f:
        f.write(text.replace("sha256:", "sha256:../../../../"))


def main(root, canary):
    """canary is the absolute path of a file that must never appear: every escape tries to write or reach it."""
    folder, base = os.path.split(canary)
    hello = entry("hello.txt", data=b"hello from a layout\n")
    good = tar(hello, entry("idle", data=IDLE, mode=0o755))
    up = "../" * 12
    layout(root, "good", good, packed=gzip.compress(good, mtime=0))
    layout(root, "otherarch", good, arch=OTHER)
    layout(root, "dotdot", tar(hello, entry(up + canary.lstrip("/"), data=b"x")))
    layout(root, "absolute", tar(hello, entry(canary, data=b"x")))
    layout(root, "symlink", tar(entry("out", tarfile.SYMTYPE, linkname=folder), entry("out/" + base, data=b"x")))
    layout(root, "symlinkup", tar(entry("d/", tarfile.DIRTYPE), entry("d/out", tarfile.SYMTYPE, linkname=up + folder.lstrip("/")), entry("d/out/" + base, data=b"x")))
    layout(root, "hardlink", tar(entry("shadow", tarfile.LNKTYPE, linkname=up + "etc/shadow")))
    layout(root, "hardlinkabs", tar(entry("shadow", tarfile.LNKTYPE, linkname="/etc/shadow")))
    layout(root, "hardlinkvia", tar(entry("etc", tarfile.SYMTYPE, linkname="/etc"), entry("shadow", tarfile.LNKTYPE, linkname="etc/shadow")))
    layout(root, "blockdevice", tar(entry("sda", tarfile.BLKTYPE, devmajor=8, devminor=0)))
    layout(root, "chardevice", tar(entry("mem", tarfile.CHRTYPE, devmajor=1, devminor=1)))
    layout(root, "pipe", tar(entry("pipe", tarfile.FIFOTYPE)))
    layout(root, "bomb", good, packed=bomb())
    layout(root, "changed", good, spoil=changed)
    layout(root, "bloblink", good, spoil=leads_out)
    layout(root, "indexpipe", good, spoil=index_is_pipe)
    layout(root, "indexhuge", good, spoil=index_is_huge)
    layout(root, "indexclimbs", good, spoil=index_climbs)
    os.makedirs(os.path.join(root, "empty"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
