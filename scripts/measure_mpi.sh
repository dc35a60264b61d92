#!/usr/bin/env bash
# A GPT's step on ranks that are hosts of their own (network namespaces on one bridge), each with a thread and a batch of
# 12, with links of some rates: measure_mpi.sh RUSHLIGHT [RANKS:GBIT:BUCKET]..., as root. A rate of 0 is a link without a
# limit; BUCKET is that of RUSHLIGHT_BUCKET, and 0 the usual. Prints JSON, a line each: what docs/mpi.md's model is
# compared with, and scripts/scaling.py draws (docs/mpi.json). STEPS (41) may be set.
set -euo pipefail
program=$1
shift
[ $# -gt 0 ] || set -- 1:0:0 2:0:0 2:1:0 2:1:806400 2:1:65536 2:0.3:0 2:0.3:806400 2:0.3:65536 4:0:0 4:1:0 4:1:806400 4:0.3:0
dir=$(mktemp -d)
hosts=(1 2 3 4)
clean() {
  for i in "${hosts[@]}" b; do ip netns del rlm$i 2>/dev/null || true; done
  rm -rf "$dir"
}
trap clean EXIT
ip netns add rlmb
ip -n rlmb link add br0 type bridge
ip -n rlmb link set br0 up
for i in "${hosts[@]}"; do
  ip netns add rlm$i
  ip link add eth0 netns rlm$i type veth peer name port$i netns rlmb
  ip -n rlmb link set port$i master br0 up
  ip -n rlm$i addr add 10.213.1.1$i/24 dev eth0
  ip -n rlm$i link set eth0 up
  ip -n rlm$i link set lo up
done
printf '#!/bin/sh\nhost=$1\nshift\nexec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"\n' >"$dir/agent"
chmod +x "$dir/agent"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
for what in "$@"; do
  IFS=: read -r ranks rate bucket <<<"$what"
  for i in "${hosts[@]}"; do
    ip netns exec rlm$i tc qdisc del dev eth0 root 2>/dev/null || true
    [ "$rate" = 0 ] || ip netns exec rlm$i tc qdisc replace dev eth0 root tbf \
      rate "$(python3 -c "print(int($rate * 1000))")mbit" burst 128kb latency 50ms
  done
  train=("$program" train gpt --f32 --steps "${STEPS:-41}" --threads 1 --batch $((12 * ranks)) --out "$dir/run")
  if [ "$bucket" != 0 ]; then export RUSHLIGHT_BUCKET=$bucket; else unset RUSHLIGHT_BUCKET; fi
  if [ "$ranks" = 1 ]; then
    "${train[@]}" >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
  else
    # mpirun is on the first of the hosts.
    names=$(seq -s, -f "rlm%g:1" "$ranks")
    ip netns exec rlm1 unshare --uts sh -c 'hostname rlm1; exec "$@"' - mpirun --host "$names" -n "$ranks" \
      --mca plm_rsh_agent "$dir/agent" --bind-to none --mca btl tcp,self --mca oob_tcp_if_include 10.213.0.0/16 \
      --mca btl_tcp_if_include 10.213.0.0/16 ${RUSHLIGHT_BUCKET:+-x RUSHLIGHT_BUCKET} "${train[@]}" >"$dir/log" 2>&1 ||
      { cat "$dir/log" >&2; exit 1; }
  fi
  # The time a step takes, without that of the epoch's end: from the checkpoint's clock, which stops before it measures.
  python3 - "$dir/run" "$ranks" "$rate" "$bucket" <<'PY'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl")]
epoch = [m for m in lines if m["kind"] == "epoch"][-1]
ranks, gbit, bucket = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
print(json.dumps({"ranks": ranks, "gbit": gbit, "bucket": bucket, "step_seconds": round(epoch["seconds"] / epoch["step"], 5)}))
PY
  rm -rf "$dir/run"
done
