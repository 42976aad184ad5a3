"""A small virtual machine around the server, whose power can be cut.

The guest is Debian's cloud kernel with an initial RAM file system made here: busybox, the server,
the test agent and the libraries that they need. Its only disk is the one of `disk.py`.
"""

import glob
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE_S = 120
LOOK_S = 0.05
IMAGE_BYTES = 4 << 30
MEMORY_MIB = 1024
PORT = 7537
KERNEL_PACKAGE = "linux-image-cloud-amd64"
# In the order in which they need each other.
MODULES = (
    "virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci "
    "virtio_blk failover net_failover virtio_net"
).split()

# Nothing reaches the disk by the file system's kindness: no data with the metadata of other files,
# no flush at a rename, no commit every five seconds.
OPTIONS = "data=writeback,noauto_da_alloc,commit=300"

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for module in {modules}; do
  [ -f /modules/$module.ko ] && insmod /modules/$module.ko
done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
mount -t ext4 -o {options} /dev/vda /disk || {{ echo GUEST no file system; poweroff -f; }}
case $(cat /proc/cmdline) in *swallow*) export LD_PRELOAD=/lib/libeatmydata.so;; esac
export HOME=/tmp SKEP_LOG_LEVEL=info SKEP_CALLS_RETENTION_BYTES=64GiB SKEP_LISTEN_PLAINTEXT=true
rm -f /disk/data/server.json
echo GUEST starts
/bin/skep up --listen 0.0.0.0:{port} --data /disk/data &
server=$!
unset LD_PRELOAD
until [ -s /disk/data/server.json ] || ! kill -0 $server; do usleep 20000; done
echo GUEST key $(cat /disk/data/admin.key)
wait $server
echo GUEST the server ended: $?
poweroff -f
"""


class GuestFailed(Exception):
    """The server did not come up in the guest."""


def run(*words, **more):
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def unpacked(package, cache):
    """The files of a Debian package, without installing it."""
    folder = os.path.join(cache, package)
    if not os.path.isdir(folder):
        draft = folder + ".draft"
        shutil.rmtree(draft, ignore_errors=True)
        os.makedirs(draft)
        run("apt-get", "download", "-qq", package, cwd=draft)
        (archive,) = glob.glob(draft + "/*.deb")
        run("dpkg-deb", "-x", archive, draft)
        os.remove(archive)
        os.rename(draft, folder)
    return folder


def kernel(cache):
    """The guest's kernel and the folder of its modules."""
    for line in run("apt-cache", "depends", KERNEL_PACKAGE).splitlines():
        if "Depends: linux-image-" in line:
            folder = unpacked(line.split()[-1], cache)
            (image,) = glob.glob(folder + "/boot/vmlinuz-*")
            (modules,) = glob.glob(folder + "/lib/modules/*")
            return image, modules
    raise SystemExit(f"there is no package {KERNEL_PACKAGE}: run apt-get update")


def libraries(program):
    """The shared libraries that a program is loaded with, by path."""
    words = run("ldd", program).split()
    return sorted({word for word in words if word.startswith("/")})


def initramfs(work, cache, skep, agent):
    """Makes the guest's root; tells the kernel and the root."""
    image, modules = kernel(cache)
    root = os.path.join(work, "root")
    shutil.rmtree(root, ignore_errors=True)
    for folder in "bin dev disk lib modules proc sys tmp".split():
        os.makedirs(os.path.join(root, folder))
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root + "/bin/busybox")
    for program, name in ((skep, "skep"), (agent, "skep-test-agent")):
        run("strip", "-o", f"{root}/bin/{name}", program)
        os.chmod(f"{root}/bin/{name}", 0o755)
        for library in libraries(program):
            os.makedirs(root + os.path.dirname(library), exist_ok=True)
            shutil.copy(library, root + library)
    (swallow,) = glob.glob(unpacked("libeatmydata1", cache) + "/usr/lib/*/libeatmydata.so.1.*")
    shutil.copy(swallow, root + "/lib/libeatmydata.so")
    for module in MODULES:
        for path in glob.glob(f"{modules}/**/{module}.ko", recursive=True):
            shutil.copy(path, root + "/modules")
    with open(root + "/init", "w", encoding="utf-8") as init:
        init.write(INIT.format(modules=" ".join(MODULES), options=OPTIONS, port=PORT))
    os.chmod(root + "/init", 0o755)
    archive = os.path.join(work, "root.cpio")
    with open(archive, "wb") as out:
        names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
        cpio = [root + "/bin/busybox", "cpio", "-o", "-H", "newc"]
        quiet = subprocess.DEVNULL
        subprocess.run(cpio, cwd=root, check=True, input=names, stdout=out, stderr=quiet)
    return image, archive


class Machine:
    """One disk, and the machine that is started on it again and again."""

    def __init__(self, work, name, boot, accel, seed):
        self.folder = os.path.join(work, name)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.image = os.path.join(self.folder, "disk.img")
        self.kernel, self.root = boot
        self.accel = accel
        self.chance = random.Random(seed)
        self.console = os.path.join(self.folder, "console.log")
        self.disk = self.guest = None
        self.address = self.key = None
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_BYTES)
        run("/sbin/mkfs.ext4", "-q", "-F", self.image)

    def power_on(self, swallow=False, lying=False):
        """Starts the guest; the server is not up yet."""
        place = os.path.join(self.folder, "disk.sock")
        if os.path.exists(place):
            os.remove(place)
        words = [sys.executable, f"{HERE}/disk.py", self.image, place]
        words += ["lying" if lying else "honest", str(self.chance.random())]
        self.disk = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.wait("the disk", lambda: os.path.exists(place))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = free.getsockname()
        forward = f"hostfwd=tcp:127.0.0.1:{self.address[1]}-10.0.2.15:{PORT}"
        line = "console=ttyS0 quiet panic=-1 random.trust_cpu=on"
        words = ["qemu-system-x86_64", "-accel", self.accel, "-cpu", "max", "-smp", "2"]
        words += ["-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-no-reboot"]
        words += ["-serial", f"file:{self.console}", "-kernel", self.kernel, "-initrd", self.root]
        words += ["-append", line + (" swallow" if swallow else "")]
        words += ["-blockdev", f"driver=nbd,node-name=d,server.type=unix,server.path={place}"]
        words += ["-device", "virtio-blk-pci,drive=d,write-cache=on"]
        words += ["-nic", f"user,model=virtio-net-pci,restrict=on,{forward}"]
        log = open(os.path.join(self.folder, "qemu.log"), "ab")
        with log:
            self.guest = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self, what, look):
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE_S:
            found = look()
            if found:
                return found
            if self.guest is not None and self.guest.poll() is not None:
                break
            time.sleep(LOOK_S)
        raise GuestFailed(f"{what} did not come; see {self.console}")

    def said(self, word):
        """What the guest's own script wrote behind a word, in this power-on."""
        with open(self.console, encoding="utf-8", errors="replace") as console:
            for line in console:
                # Lines of the kernel and of the server stand between, and before, ours. The last
                # may be half written.
                if f"GUEST {word}" in line and line.endswith("\n"):
                    return line.split(f"GUEST {word}", 1)[1].strip() or word
        return None

    def wait_started(self):
        """Waits until the server's process begins."""
        self.wait("the guest", lambda: os.path.exists(self.console) and self.said("starts"))

    def wait_key(self):
        self.wait_started()
        self.key = self.wait("the server", lambda: self.said("key"))

    def cut(self):
        """Cuts the power: the disk first, then the machine with everything in its memory."""
        self.disk.terminate()
        self.guest.kill()
        self.guest.wait()
        self.guest = None
        out, _ = self.disk.communicate(timeout=PATIENCE_S)
        os.replace(self.console, self.console + ".before")
        return json.loads(out or "{}")

    def off(self):
        """Ends what is left."""
        if self.guest is not None:
            self.guest.kill()
            self.guest.wait()
            self.guest = None
        if self.disk is not None and self.disk.poll() is None:
            self.disk.kill()
            self.disk.wait()
