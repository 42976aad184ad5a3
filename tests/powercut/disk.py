"""A disk with a volatile write cache, as an NBD server on a Unix socket.

What is written stays in the cache until the guest flushes; only then it is in the image. When the
power is cut (SIGTERM), what is still in the cache meets the fate that it meets in a real disk: some
writes were carried out, some were not, one may be torn between two sectors, in no order that
anybody may rely on.

Run by `vm.py`: disk.py IMAGE SOCKET MODE SEED, where MODE is `honest` or `lying` (a disk that
confirms flushes without doing them, for the control). Prints one line of JSON when the power goes.
"""

import json
import os
import random
import signal
import socket
import struct
import sys
import time

SECTOR = 512
# What a flush takes on a disk that has to carry it out.
FLUSH_S = 0.003
OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC, ANSWER_MAGIC = 0x25609513, 0x67446698
OPTION_ABORT, OPTION_GO = 2, 7
REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 1, 3, (1 << 31) + 1
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
# Has flags; takes flushes. FUA is not offered, so that the guest flushes instead.
TRANSMISSION = 1 | 4
EINVAL = 22


class PowerCut(Exception):
    """The power is gone."""


class Disk:
    """An image and what has not reached it."""

    def __init__(self, path, lying):
        self.image = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.lying = lying
        self.log = []  # writes since the last flush, in order
        self.newest = {}  # sector -> its newest content, for reading

    def write(self, offset, data):
        self.log.append((offset, data))
        for at in range(0, len(data), SECTOR):
            self.newest[(offset + at) // SECTOR] = data[at : at + SECTOR]

    def read(self, offset, length):
        data = bytearray(os.pread(self.image, length, offset))
        if self.newest:
            for at in range(0, length, SECTOR):
                sector = self.newest.get((offset + at) // SECTOR)
                if sector is not None:
                    data[at : at + SECTOR] = sector
        return data

    def flush(self):
        time.sleep(FLUSH_S)
        if self.lying:
            return
        for offset, data in self.log:
            os.pwrite(self.image, data, offset)
        self.log.clear()
        self.newest.clear()

    def cut(self, chance):
        """Decides what becomes of the cache; tells how many writes and bytes it lost."""
        lost, lost_bytes, torn = 0, 0, 0
        # Sometimes nothing was carried out, sometimes nearly everything.
        luck = 0.0 if self.lying else chance.choice([0.0, 0.2, 0.5, 0.8, 0.95])
        for offset, data in self.log:
            if chance.random() >= luck:
                lost, lost_bytes = lost + 1, lost_bytes + len(data)
                continue
            sectors = len(data) // SECTOR
            if sectors > 1 and chance.random() < 0.2:
                first = chance.randrange(sectors)
                last = chance.randrange(first, sectors) + 1
                torn += 1
                lost_bytes += len(data) - (last - first) * SECTOR
                data, offset = data[first * SECTOR : last * SECTOR], offset + first * SECTOR
            os.pwrite(self.image, data, offset)
        return {"volatile": len(self.log), "lost": lost, "lost_bytes": lost_bytes, "torn": torn}


class Connection:
    """The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md"""

    def __init__(self, peer, disk):
        self.peer, self.disk = peer, disk

    def take(self, form):
        return struct.unpack(form, self.bytes(struct.calcsize(form)))

    def bytes(self, length):
        data = bytearray(length)
        view, have = memoryview(data), 0
        while have < length:
            got = self.peer.recv_into(view[have:])
            if got == 0:
                raise EOFError
            have += got
        return bytes(data)

    def greet(self):
        self.peer.sendall(struct.pack(">8sQH", b"NBDMAGIC", OPTION_MAGIC, 3))
        self.take(">I")
        while True:
            _, option, length = self.take(">QII")
            self.bytes(length)
            reply = lambda kind, data=b"": self.peer.sendall(
                struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data
            )
            if option == OPTION_GO:
                reply(REPLY_INFO, struct.pack(">HQH", 0, self.disk.size, TRANSMISSION))
                reply(REPLY_ACK)
                return
            if option == OPTION_ABORT:
                raise EOFError
            reply(REPLY_UNSUPPORTED)

    def serve(self):
        while True:
            _, _, kind, handle, offset, length = self.take(">IHHQQI")
            data, error = b"", 0
            if kind == READ:
                data = self.disk.read(offset, length)
            elif kind == WRITE:
                self.disk.write(offset, self.bytes(length))
            elif kind == FLUSH:
                self.disk.flush()
            elif kind == DISCONNECT:
                return
            else:
                error = EINVAL
            self.peer.sendall(struct.pack(">IIQ", ANSWER_MAGIC, error, handle) + data)


def main():
    path, place, mode, seed = sys.argv[1:]
    disk = Disk(path, mode == "lying")

    def power_cut(*_):
        # The second of two cuts has nothing left to cut.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise PowerCut

    signal.signal(signal.SIGTERM, power_cut)
    # Whoever starts this may be interrupted from the keyboard; the disk waits to be told.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(place)
            listener.listen(1)
            peer, _ = listener.accept()
            connection = Connection(peer, disk)
            connection.greet()
            connection.serve()
        signal.pause()
    except (EOFError, ConnectionError):
        # The guest died before the disk: the cache is decided upon all the same.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except PowerCut:
        pass
    print(json.dumps(disk.cut(random.Random(seed))), flush=True)


main()
