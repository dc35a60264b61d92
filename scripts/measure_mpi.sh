#!/usr/bin/env bash
# A GPT's step on one rank, and on two on hosts of their own (network namespaces) with links of some rates; each rank has
# a thread and a batch of 12. Prints JSON: what docs/mpi.md's model is compared with. measure_mpi.sh RUSHLIGHT, as root.
set -euo pipefail
dir=$(mktemp -d)
trap 'ip netns del rlhost1; ip netns del rlhost2; rm -rf "$dir"' EXIT
for i in 1 2; do ip netns add rlhost$i; done
ip link add eth0 netns rlhost1 type veth peer name eth0 netns rlhost2
for i in 1 2; do
  ip -n rlhost$i addr add 10.213.1.1$i/24 dev eth0
  ip -n rlhost$i link set eth0 up
  ip -n rlhost$i link set lo up
done
printf '#!/bin/sh\nhost=$1\nshift\nexec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"\n' >"$dir/agent"
chmod +x "$dir/agent"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
gpt() { "${@:2}" "$program" train gpt --f32 --steps 101 --threads 1 --batch $((12 * $1)) --out "$dir/run" >/dev/null 2>&1; }
program=$1
# The time a step takes, without that of the epoch's end: from the checkpoint's clock, which stops before it measures.
seconds() {
  python3 - "$dir/run" "$1" "$2" <<'PY'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl")]
epoch = [m for m in lines if m["kind"] == "epoch"][-1]
print(json.dumps({"ranks": int(sys.argv[2]), "gbit": float(sys.argv[3]), "step_seconds": epoch["seconds"] / epoch["step"]}))
PY
  rm -rf "$dir/run"
}
gpt 1 && seconds 1 0
two=(mpirun --host rlhost1:1,rlhost2:1 -n 2 --mca plm_rsh_agent "$dir/agent" --bind-to none --mca btl tcp,self
  --mca oob_tcp_if_include 10.213.0.0/16 --mca btl_tcp_if_include 10.213.0.0/16)
# mpirun is on the first of the hosts.
for rate in 0 1 0.3; do
  if [ $rate != 0 ]; then
    for i in 1 2; do
      ip netns exec rlhost$i tc qdisc replace dev eth0 root tbf rate "$(python3 -c "print(int($rate * 1000))")mbit" \
        burst 128kb latency 50ms
    done
  fi
  gpt 2 ip netns exec rlhost1 unshare --uts sh -c 'hostname rlhost1; exec "$@"' - "${two[@]}" && seconds 2 $rate
done
ip netns exec rlhost1 ping -q -c 20 -i 0.01 10.213.1.12 2>/dev/null | tail -1 >&2 || true
