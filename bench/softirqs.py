"""Time in softirqs, to the nanosecond, by CPU and by the process that they interrupted.

``python softirqs.py`` compiles a program onto the tracepoints around each softirq and says
``{"ready": true}``; each line that it reads is answered by all that was counted until then:
``[[CPU, PROCESS, WHETHER IT WAS THE NETWORK'S, NANOSECONDS], ...]``. It runs under the interpreter
that has bcc, so it imports nothing of this project.
"""

from __future__ import annotations

import json
import os
import sys

NO_BCC = 3
"""Exit status: this interpreter has no bcc."""

PROGRAM = """
struct owner {
    u32 cpu;
    u32 process;
    u32 network;
};

BPF_PERCPU_ARRAY(begun, u64, 1);
BPF_HASH(spent, struct owner, u64, 32768);

TRACEPOINT_PROBE(irq, softirq_entry)
{
    u32 zero = 0;
    u64 now = bpf_ktime_get_ns();
    begun.update(&zero, &now);
    return 0;
}

TRACEPOINT_PROBE(irq, softirq_exit)
{
    u32 zero = 0;
    u64 nothing = 0;
    u64 now = bpf_ktime_get_ns();
    u64 *begin = begun.lookup(&zero);
    if (!begin || !*begin)
        return 0;
    struct owner owner = {
        .cpu = bpf_get_smp_processor_id(),
        .process = bpf_get_current_pid_tgid() >> 32,
        .network = args->vec == NET_TX || args->vec == NET_RX,
    };
    u64 *sum = spent.lookup_or_try_init(&owner, &nothing);
    if (sum)
        *sum += now - *begin;
    *begin = 0;
    return 0;
}
"""
VECTORS = ("-DNET_TX=2", "-DNET_RX=3")
"""include/linux/interrupt.h; they are the kernel's own, not for programs to include."""


def main() -> int:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the compiler writes there as it likes
    try:
        import bcc

        _ = bcc.BPF.TRACEPOINT
    except (ImportError, AttributeError) as error:
        print(f"no bcc in {sys.executable}: {error}", file=sys.stderr)
        return NO_BCC
    spent = bcc.BPF(text=PROGRAM, cflags=list(VECTORS))["spent"]
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        counted = [
            [owner.cpu, owner.process, bool(owner.network), time.value]
            for owner, time in spent.items()
        ]
        print(json.dumps(counted), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
