"""Power cuts: the server in a virtual machine whose disk loses what was not flushed.

`cargo xtask powercut` runs this; docs/powercut.md says what is simulated and how to read it.
Python 3.11, standard library only.
"""

import argparse
import os
import random
import shutil
import sys
import time

import load
import vm

# The longest that clients call before a cut.
CALLING_S = 8.0
# The longest that a server starts before a second cut, and how often there is one.
STARTING_S = 2.0
SECOND_CUT = 0.25
SHOWN = 10
# What must lose calls, or the rounds show nothing.
CONTROLS = {
    "control: the server's syncs swallowed": {"swallow": True},
    "control: a disk that lies about flushes": {"lying": True},
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=20)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    parser.add_argument("--skep", default=os.environ.get("SKEP_BIN", f"{target}/release/skep"))
    parser.add_argument("--agent", help="default: skep-test-agent beside the server")
    parser.add_argument("--work", default=f"{target}/powercut", help="folder for disk and logs")
    parser.add_argument("--accel", default="tcg", help="qemu's accelerator: tcg (default) or kvm")
    parser.add_argument("--control-rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    options.agent = options.agent or os.path.join(os.path.dirname(options.skep), "skep-test-agent")
    options.work = os.path.abspath(options.work)
    return options


class Round:
    """One cut, what was acknowledged before it, and what came of it."""

    HEAD = (
        f"{'round':>5} {'cut s':>6} {'acked':>6} {'results':>7} {'large':>6} {'unacked':>7} "
        f"{'volatile':>8} {'lost':>5} {'torn':>5} {'broken':>7}"
    )

    def __init__(self, calls, disk, after):
        self.acked = {call.key for call in calls if call.id}
        self.answered = sum(call.answer is not None for call in calls)
        self.unacked = len(calls) - len(self.acked)
        self.large = sum(call.size >= load.LARGE_BYTES for call in calls)
        self.disk, self.after, self.wrong = disk, after, []

    def broken(self):
        """Acknowledged calls of which something is wrong, and everything else that is."""
        keys = {line.split(": ")[0] for line in self.wrong}
        return len(keys & self.acked), len(keys - self.acked)

    def line(self, number):
        disk = self.disk
        return (
            f"{number:>5} {self.after:>6.2f} {len(self.acked):>6} {self.answered:>7} "
            f"{self.large:>6} {self.unacked:>7} {disk['volatile']:>8} {disk['lost']:>5} "
            f"{disk['torn']:>5} {sum(self.broken()):>7}"
        )


def call_and_cut(machine, name, chance, how):
    """Clients call until the power goes."""
    machine.power_on(**how)
    machine.wait_key()
    load.ready(machine)
    calling = load.Load(machine, name, chance.random())
    after = chance.uniform(0.3, CALLING_S)
    time.sleep(after)
    disk = machine.cut()
    calls = calling.end()
    return calls, disk, after, calling.odd


def come_back(machine, chance):
    """Power returns, sometimes only to go again while the server starts."""
    if chance.random() < SECOND_CUT:
        machine.power_on()
        machine.wait_started()
        time.sleep(chance.uniform(0.0, STARTING_S))
        machine.cut()
    machine.power_on()
    machine.wait_key()


def one_round(machine, oracle, number, chance, how, last):
    calls, disk, after, odd = call_and_cut(machine, f"r{number}", chance, how)
    result = Round(calls, disk, after)
    try:
        come_back(machine, chance)
        result.wrong = odd + oracle.check(machine, calls, everything=last)
    except (vm.GuestFailed, TimeoutError, RuntimeError, *load.BROKEN) as failure:
        result.wrong = [f"after the cut: {failure!r}"]
        # A server that does not come back has lost everything; a connection that broke has not.
        if isinstance(failure, vm.GuestFailed):
            result.wrong += [f"{key}: not to be had" for key in sorted(result.acked)]
    # The server that was compared loses its power like any other.
    if machine.guest is not None:
        machine.cut()
    return result


def prepare(machine):
    """A server that has its agent, and has lost its power once already."""
    machine.power_on()
    machine.wait_key()
    load.deploy(machine)
    machine.cut()


def series(options, boot, name, rounds, how=None):
    """Rounds on one data folder; a control begins anew after each, for nothing can follow a loss."""
    chance = random.Random(f"{options.seed}-{name}")
    print(f"\n{name}\n{Round.HEAD}", flush=True)
    machine, oracle, results = None, None, []
    try:
        for number in range(1, rounds + 1):
            if machine is None or how:
                machine = vm.Machine(options.work, name, boot, options.accel, chance.random())
                oracle = load.Oracle()
                prepare(machine)
            result = one_round(machine, oracle, number, chance, how or {}, number == rounds)
            results.append(result)
            print(result.line(number), flush=True)
            show(result.wrong[:1] if how else result.wrong)
            if result.wrong and not how:
                break
    finally:
        if machine is not None:
            machine.off()
    return results


def show(lines):
    for line in lines[:SHOWN]:
        print(f"  {line}")
    if len(lines) > SHOWN:
        print(f"  … and {len(lines) - SHOWN} more")


def report(results, controls, spent):
    """Prints the sums; tells whether all is well and the controls saw what they must."""
    wrong = [line for result in results for line in result.wrong]
    writes = sum(result.disk["volatile"] for result in results)
    print(
        f"\n{len(results)} rounds in {spent:.0f} s\n"
        f"  calls acknowledged             {sum(len(r.acked) for r in results)}\n"
        f"  ... with their result          {sum(r.answered for r in results)}\n"
        f"  sent, never answered           {sum(r.unacked for r in results)}\n"
        f"  of both, with a body in a file {sum(r.large for r in results)}\n"
        f"  writes in the disk's cache     {writes}, lost {sum(r.disk['lost'] for r in results)}\n"
        f"  promises broken                {len(wrong)}"
    )
    well = not wrong
    for name, rounds in controls.items():
        acked = sum(len(result.acked) for result in rounds)
        lost = sum(result.broken()[0] for result in rounds)
        print(f"{name}: {lost} of {acked} acknowledged calls lost")
        if rounds and not lost:
            well = False
            print("  nothing: so the rounds above show nothing")
    return well


def main():
    options = arguments()
    os.makedirs(options.work, exist_ok=True)
    cache = os.path.join(options.work, "packages")
    boot = vm.initramfs(options.work, cache, options.skep, options.agent)
    print(f"seed {options.seed}; console and disk under {options.work}", flush=True)
    started = time.monotonic()
    results = series(options, boot, "power cuts", options.rounds)
    spent = time.monotonic() - started
    controls = {
        name: series(options, boot, name, options.control_rounds, how)
        for name, how in CONTROLS.items()
    }
    if not report(results, controls, spent):
        sys.exit(1)
    for name in ("root", "root.cpio"):
        path = os.path.join(options.work, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


if __name__ == "__main__":
    main()
