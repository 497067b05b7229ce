#!/usr/bin/env python3
"""How Sillage grows: memory, start, rates and disk from an empty store to millions of formulas.

    cargo build --release
    python3 benches/scale/measure.py --upto 10M --data /srv/sillage-scale

One store is filled step by step (NDJSON, by `sillage bench --workload bulk`). At each size:

  1. compaction (`POST /admin/snapshot`), then the memory of the process that has loaded;
  2. start to ready, as a median: cached after an orderly end, cached after a kill, and from the
     disk; from the start of the process to the answer of `/readyz`;
  3. memory of the process just started, beside that of a server with an empty store;
  4. POST of new and of stored formulas, by turns on a fresh empty store and on this one, as
     `sillage bench` measures them: every answer is verified;
  5. compaction again, then bytes on disk.

The results so far are in the file after each size, with a plot beside it, so that a run that is
interrupted has not been in vain. Absolute figures hold for the machine; ratios are within a round.
A server without `POST /admin/snapshot` is measured all the same, and the results say so.

Only the standard library is needed.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
import plot

ROOT = Path(__file__).resolve().parents[2]
SIZES = [100_000, 1_000_000, 5_000_000, 10_000_000, 50_000_000]
# The formulas of the store. New ones that are posted for a rate have seeds of their own.
SEED = 20_261_121
# Formulas in the empty store before duplicates are sent: something must be there to be repeated.
EMPTY_STOCK = 10_000
# Lines of one bulk load; between two of them progress is shown.
LOAD_LINES = 2_000_000
# Bytes of the log per formula, above what is measured, to tell beforehand if the disk will do.
LOG_BYTES = 500
DISK_RESERVE = 2 << 30
# A compaction of the largest store, a start that replays everything.
DEADLINE_S = 3600


def say(text):
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


def count_of(text):
    factors = {"k": 1_000, "M": 1_000_000}
    digits, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1)
    return int(float(digits) * factor)


class Server:
    """`sillage serve` on a directory, from the start of the process to its end."""

    def __init__(self, program, data):
        self.port = free_port()
        command = [program, "serve", "--data", data, "--listen", f"127.0.0.1:{self.port}"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SILLAGE_")}
        Path(data).parent.mkdir(parents=True, exist_ok=True)
        self.events = Path(f"{data}.events")
        with open(self.events, "ab") as events:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=events,
                env=environment,
            )
        try:
            self.await_ready()
        except BaseException:
            self.kill()
            raise
        self.ready_s = time.perf_counter() - began
        self.url = f"http://127.0.0.1:{self.port}"

    def await_ready(self):
        # It binds before it recovers and answers after: ask until the port is bound, then wait.
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(self.ended())
            with contextlib.suppress(OSError):
                if self.call("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.0005)

    def call(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def settle(self):
        """Waits until it writes nothing by itself, such as the zeros of a new segment: that is
        no cost of the requests that are measured next."""
        written = None
        while (now := self.written_bytes()) != written:
            written = now
            time.sleep(0.2)

    def written_bytes(self):
        counts = Path(f"/proc/{self.process.pid}/io").read_text()
        return next(line for line in counts.splitlines() if line.startswith("write_bytes:"))

    def compact(self):
        """What the server says of its compaction; `None` if it has none."""
        began = time.perf_counter()
        while True:
            status, body = self.call("POST", "/admin/snapshot")
            if status not in (409, 503):
                break
            # One that the server began by itself is under way: ours comes after it.
            time.sleep(0.05)
        if status == 404:
            say("  SKIPPED: this server has no POST /admin/snapshot")
            return None
        if status != 200:
            raise RuntimeError(f"POST /admin/snapshot answered {status}: {body[:300]!r}")
        return {**json.loads(body), "measured_s": time.perf_counter() - began}

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(DEADLINE_S) != 0:
            raise RuntimeError(self.ended())

    def ended(self):
        return f"the server ended with {self.process.returncode}; see {self.events}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def files_below(directory):
    return [path for path in Path(directory).rglob("*") if path.is_file()]


def disk_bytes(directory):
    """Bytes that the files occupy, by the directory they are in, and in all."""
    found = {"all": 0}
    for path in files_below(directory):
        occupied = path.stat().st_blocks * 512
        found["all"] += occupied
        below = path.relative_to(directory)
        place = below.parts[0] if len(below.parts) > 1 else "other"
        found[place] = found.get(place, 0) + occupied
    return found


def forget_cached(directory):
    """Lets the page cache forget the files, so that the next reader waits for the disk."""
    for path in files_below(directory):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class Scale:
    def __init__(self, arguments):
        self.arguments = arguments
        self.full = str(Path(arguments.data) / "full")
        self.empty = str(Path(arguments.data) / "empty")
        # Formulas of SEED that are stored, and all that are.
        self.loaded = 0
        self.stored = 0
        # Bytes of the JSON that was loaded, to compare the disk with.
        self.json_bytes = 0
        self.steps = []

    def run(self):
        os.makedirs(self.arguments.data, exist_ok=True)
        if os.path.exists(self.full):
            sys.exit(f"{self.full} is there already: choose another directory, or remove it")
        upto = self.arguments.upto
        sizes = [size for size in self.arguments.sizes if size < upto] + [upto]
        for size in sizes:
            if not self.fits(size):
                break
            self.steps.append(self.step(size))
            self.save()
        self.compare_with_goals()
        if not self.arguments.keep:
            shutil.rmtree(self.full)
            shutil.rmtree(self.empty, ignore_errors=True)

    def fits(self, size):
        """Whether the disk has room for the log to come and for one more snapshot."""
        last = self.steps[-1]["disk"]["bytes_per_formula"] if self.steps else LOG_BYTES
        needed = (size - self.stored) * LOG_BYTES + size * last + DISK_RESERVE
        free = shutil.disk_usage(self.arguments.data).free
        if free < needed:
            say(f"ends here: {size:,} formulas need {needed / 1e9:.0f} GB of disk, "
                f"{free / 1e9:.0f} are free")
        return free >= needed

    def step(self, size):
        say(f"{size:,} formulas")
        step = {"size": size, **self.load(size)}
        step["formulas"] = self.stored
        step["ready_s"] = self.starts()
        with Server(self.arguments.program, self.full) as server:
            step["resident"]["started"] = server.resident_bytes()
            step["resident"]["empty"] = self.empty_resident()
            step["rates"] = self.rates(server)
            step["second_compaction"] = server.compact()
            step["resident"]["after_posts"] = server.resident_bytes()
            server.terminate()
        found = disk_bytes(self.full)
        each = found["all"] / self.stored
        against_json = each / (self.json_bytes / self.loaded)
        step["disk"] = {**found, "bytes_per_formula": each, "against_json": against_json}
        above = (step["resident"]["started"] - step["resident"]["empty"]) / 1e6
        rates = ", ".join(f"{k} {v['ratio']:.2f}" for k, v in step["rates"].items())
        say(f"  {above:.0f} MB above empty, ready in {step['ready_s']['cached']:.3f} s, "
            f"rates against empty: {rates}, {each:.0f} B on disk each")
        return step

    def load(self, size):
        """Fills the store up to the size and compacts it."""
        began, lines = time.perf_counter(), 0
        with Server(self.arguments.program, self.full) as server:
            while self.stored < size:
                count = min(LOAD_LINES, size - self.stored)
                report = self.bench(server, "bulk", "--rounds=1", f"--lines={count}",
                                    f"--seed={SEED}", f"--first={self.loaded}")
                self.json_bytes += report["totals"]["bulk_json_bytes"]
                self.loaded += count
                self.stored += count
                lines += count
                rate = lines / (time.perf_counter() - began)
                say(f"  {self.stored:,} loaded, {rate:,.0f}/s")
            if self.arguments.acked:
                self.bench(server, "lease", "--stocked", f"--stock={self.loaded}",
                           f"--seed={SEED}", "--batch=1000", "--connections=4", "--rounds=1",
                           "--seconds=3600")
            resident = {"loaded": server.resident_bytes()}
            compaction = server.compact()
            resident["compacted"] = server.resident_bytes()
            server.terminate()
        return {"resident": resident, "compaction": compaction}

    def starts(self):
        """Seconds from the start of the process until it is ready."""
        times = {"cached": [], "cached_after_kill": [], "from_disk": []}
        for _ in range(self.arguments.starts):
            with Server(self.arguments.program, self.full) as server:
                server.kill()
            with Server(self.arguments.program, self.full) as server:
                times["cached_after_kill"].append(server.ready_s)
                server.terminate()
            with Server(self.arguments.program, self.full) as server:
                times["cached"].append(server.ready_s)
                server.terminate()
            forget_cached(self.full)
            with Server(self.arguments.program, self.full) as server:
                times["from_disk"].append(server.ready_s)
                server.terminate()
        return {name: statistics.median(found) for name, found in times.items()}

    def empty_server(self):
        shutil.rmtree(self.empty, ignore_errors=True)
        return Server(self.arguments.program, self.empty)

    def empty_resident(self):
        with self.empty_server() as server:
            resident = server.resident_bytes()
            server.terminate()
        return resident

    def rates(self, full):
        """New and stored formulas on this store and on an empty one, by turns."""
        found = {"new": [], "duplicate": []}
        stocked = ["--stocked", f"--seed={SEED}"]
        for number in range(self.arguments.rounds):
            # A fresh one each time: after a round of posts it is not empty any more.
            with self.empty_server() as empty:
                # Who comes second has it warmer, so they take turns in that, too.
                sides = [(empty, EMPTY_STOCK), (full, self.loaded)]
                order = (0, 1) if number % 2 == 0 else (1, 0)
                new = {at: self.rate(sides[at][0], "submit") for at in order}
                self.bench(empty, "bulk", "--rounds=1", f"--lines={EMPTY_STOCK}", f"--seed={SEED}")
                again = {at: self.rate(sides[at][0], "duplicates", *stocked,
                                       f"--stock={sides[at][1]}") for at in order}
                found["new"].append([new[0], new[1]])
                found["duplicate"].append([again[0], again[1]])
                empty.terminate()
        return {name: summary(rounds) for name, rounds in found.items()}

    def rate(self, server, workload, *more):
        arguments = self.arguments
        server.settle()
        report = self.bench(server, workload, "--rounds=1", f"--seconds={arguments.seconds}",
                            f"--connections={arguments.connections}", *more)
        if server.events == Path(f"{self.full}.events"):
            self.stored += report["totals"]["accepted"]
        figures = report["results"][0]["servers"]["sillage"]
        return {"per_s": figures["rate_per_s"], "p99_ms": figures["latency_ms"]["p99"]}

    def bench(self, server, workload, *more):
        command = [self.arguments.program, "bench", server.url, "--workload", workload, "--json"]
        done = subprocess.run([*command, *more], stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join([*command, *more])} ended with {done.returncode}")
        return json.loads(done.stdout)

    def save(self):
        result = {
            "command": " ".join(sys.argv),
            "date": datetime.date.today().isoformat(),
            "program": version(self.arguments.program),
            "machine": machine(self.arguments.data),
            "connections": self.arguments.connections,
            "messages": "acked" if self.arguments.acked else "waiting",
            "compacted": all(step["compaction"] for step in self.steps),
            "steps": self.steps,
        }
        self.arguments.out.write_text(json.dumps(result, indent=1) + "\n")
        self.arguments.plot.write_text(plot.draw(result))
        say(f"  written: {self.arguments.out}, {self.arguments.plot}")

    def compare_with_goals(self):
        """Says of each goal whether the largest size reaches it."""
        if not self.steps:
            return
        first, last = self.steps[0], self.steps[-1]
        above = (last["resident"]["started"] - last["resident"]["empty"]) / 1e6
        ready, ready_first = last["ready_s"]["cached"], first["ready_s"]["cached"]
        goals = [
            ("memory above an empty server", f"{above:.0f} MB", above <= 160),
            ("start to ready", f"{ready:.3f} s", ready <= 1),
            ("start against the first size", f"{ready / ready_first:.2f}",
             ready <= 2 * ready_first),
        ]
        for name, rates in last["rates"].items():
            ratio = rates["ratio"]
            goals.append((f"POST {name} against empty", f"{ratio:.2f}", ratio >= 0.8))
        say(f"at {last['formulas']:,} formulas:")
        for name, found, is_reached in goals:
            say(f"  {'reached' if is_reached else 'MISSED '} {name}: {found}")


def summary(rounds):
    """Medians of both sides, and the median of the ratios within rounds."""
    sides = {
        side: {key: statistics.median(it[index][key] for it in rounds) for key in rounds[0][0]}
        for index, side in enumerate(("empty", "full"))
    }
    ratios = [full["per_s"] / empty["per_s"] for empty, full in rounds]
    return {**sides, "ratio": statistics.median(ratios), "ratios": ratios}


def version(program):
    done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.strip()


def machine(data):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "disk_bytes": shutil.disk_usage(data).total,
        "load": os.getloadavg(),
    }


def main():
    words = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=words)
    parser.add_argument("--upto", type=count_of, default=count_of("10M"),
                        help="formulas of the last size, such as 10M (default) or 500k")
    parser.add_argument("--sizes", type=lambda text: [count_of(it) for it in text.split(",")],
                        default=SIZES, help="the sizes before it, such as 100k,1M,5M (default)")
    parser.add_argument("--data", required=True, help="a directory on the disk to be measured")
    parser.add_argument("--program", default=str(ROOT / "target/release/sillage"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs/scale.json")
    parser.add_argument("--plot", type=Path, help="default: beside --out, as SVG")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3, help="of each measured run")
    parser.add_argument("--rounds", type=int, default=4, help="of each rate")
    parser.add_argument("--starts", type=int, default=3, help="of each kind")
    parser.add_argument("--acked", action="store_true",
                        help="lease and ack every message before compacting; else all wait")
    parser.add_argument("--keep", action="store_true", help="keep the store in the end")
    arguments = parser.parse_args()
    arguments.plot = arguments.plot or arguments.out.with_suffix(".svg")
    Scale(arguments).run()


if __name__ == "__main__":
    main()
