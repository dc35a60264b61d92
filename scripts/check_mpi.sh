#!/usr/bin/env bash
# Training over MPI: on 2 and 4 ranks the losses of one, the same with optimizer states shared out, going on with another
# number of ranks, ranks that die, and network namespaces as separate hosts. Installs Open MPI where it may.
# With a program as its argument that is checked; else it is built.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v mpicc >/dev/null || ! compgen -G "/usr/lib/*/libclang[-.][0-9s]*" >/dev/null; then
  if ! { command -v apt-get && [ "$(id -u)" = 0 ]; } >/dev/null; then
    echo "MPI is not checked: install libopenmpi-dev, openmpi-bin and libclang-dev"
    exit 0
  fi
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
    libopenmpi-dev openmpi-bin libclang-dev clang iproute2 >/dev/null
fi

dir=$(mktemp -d)
spaces=()
clean() {
  # The daemon of mpirun on the dark host does not end by itself.
  for space in "${spaces[@]}"; do
    ip netns pids "$space" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns del "$space" 2>/dev/null || true
  done
  for link in rlveth1 rlveth2 rlbr0; do ip link del $link 2>/dev/null || true; done
  rm -rf "$dir"
}
trap clean EXIT

if [ $# -gt 0 ]; then
  cp "$1" "$dir/rushlight"
else
  (cd crates/rushlight-mpi && cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings && cargo test --locked -q)
  cargo build --release -p rushlight-cli --features mpi
  cp target/release/rushlight "$dir/rushlight"
fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# mpirun's own deadline, so that nothing here can hang.
on() {
  local n=$1 again=1
  shift
  until mpirun --oversubscribe --timeout 60 -n "$n" "$dir/rushlight" train "$@" >"$dir/log" 2>&1; do
    # Seen once on a busy machine: all ranks were done, and mpirun took one for lost that had ended.
    if [ $again = 0 ] || ! grep -q "exiting improperly" "$dir/log" || ! grep -q "^model, history" "$dir/log"; then
      cat "$dir/log"
      exit 1
    fi
    again=0
    echo "mpirun took a rank for lost after the end: once more"
    for ((i = 1; i < $#; i++)); do [ "${!i}" != --out ] || { j=$((i + 1)) && rm -rf "${!j}"; }; done
  done
}
alone() { "$dir/rushlight" train "$@" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }; }

# Whether two runs have the same losses, to a relative difference.
same() {
  python3 - "$dir/$1" "$dir/$2" "$3" <<'PY'
import json, sys
def losses(run):
    return {m["step"]: m["loss"] for m in map(json.loads, open(run + "/metrics.jsonl")) if m["kind"] == "step"}
one, other, most = losses(sys.argv[1]), losses(sys.argv[2]), float(sys.argv[3])
assert one and one.keys() == other.keys(), (len(one), len(other))
worst = max(abs(one[step] - other[step]) / abs(one[step]) for step in one)
print(f"{sys.argv[2].split('/')[-1]}: {len(one)} steps, losses differ by at most {worst:.1e}")
sys.exit(worst > most)
PY
}

echo "== the losses of one rank on 2 and on 4"
# A batch of 7, so that ranks have different numbers of rows; images with dropout and random shifts.
gpt=(gpt --f32 --steps 40 --batch 7 --layers 2 --width 64)
images=(images --epochs 1 --batch 500 --lr 1e-3)
alone "${gpt[@]}" --out "$dir/gpt-1"
alone "${images[@]}" --out "$dir/images-1"
for n in 2 4; do
  on $n "${gpt[@]}" --out "$dir/gpt-$n"
  same gpt-1 gpt-$n 1e-5
  on $n "${images[@]}" --out "$dir/images-$n"
  same images-1 images-$n 1e-5
done
# Sentences of uneven length, with dropout. Products may be in bf16 here, which rounds the rest to 3 digits.
zcat data/en-es/valid.tsv.gz | awk 'NR <= 200' >"$dir/pairs.tsv"
translate=(translate --data "$dir/pairs.tsv" --width 32 --vocab 300 --dropout 0.2 --batch 7 --epochs 1)
alone "${translate[@]}" --out "$dir/translate-1"
on 3 "${translate[@]}" --out "$dir/translate-3"
same translate-1 translate-3 2e-4

echo "== optimizer states shared out"
on 4 "${gpt[@]}" --shard-optimizer --out "$dir/gpt-sharded"
same gpt-1 gpt-sharded 1e-5

echo "== a rank that dies, and another number of ranks that goes on"
long=(gpt --f32 --steps 400 --batch 8 --layers 2 --width 64)
alone "${long[@]}" --out "$dir/long"
# Waits until a run has done some steps.
under_way() { until [ -e "$1/metrics.jsonl" ] && [ "$(wc -l <"$1/metrics.jsonl")" -gt 40 ]; do sleep 0.05; done; }
# dies SIGNAL RANK RANKS: kills that rank of four in the midst of a run; the others must end within 10 seconds, and RANKS go on.
dies() {
  local run="$dir/died-$1-$2" begin
  mpirun --oversubscribe --timeout 60 -n 4 "$dir/rushlight" train "${long[@]}" --out "$run" >"$dir/log" 2>&1 &
  local mpirun=$! victim=""
  under_way "$run"
  for child in $(pgrep -P $mpirun); do
    if tr '\0' '\n' <"/proc/$child/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$2"; then victim=$child; fi
  done
  kill "-$1" "$victim"
  begin=$(date +%s%N)
  if wait $mpirun; then echo "mpirun did not notice"; exit 1; fi
  local took=$((($(date +%s%N) - begin) / 1000000))
  grep -h "^error" "$dir/log" | head -1 || echo "it has no last words"
  echo "kill -$1 of rank $2: all ended after $took ms"
  [ $took -lt 10000 ]
  on "$3" gpt --resume "$run"
  same long "died-$1-$2" 1e-5
}
dies KILL 2 2
dies STOP 1 3
dies KILL 0 4

echo "== two hosts"
if ! ip link add rlbr0 type bridge 2>/dev/null; then
  echo "network namespaces cannot be made here: not checked"
  exit 0
fi
ip addr add 10.213.0.1/24 dev rlbr0
ip link set rlbr0 up
for i in 1 2; do
  ip netns add rlhost$i
  spaces+=(rlhost$i)
  ip link add rlveth$i type veth peer name eth0 netns rlhost$i
  ip link set rlveth$i master rlbr0 up
  ip -n rlhost$i addr add 10.213.0.1$i/24 dev eth0
  ip -n rlhost$i link set eth0 up
  ip -n rlhost$i link set lo up
done
# What mpirun calls in ssh's place: AGENT HOST COMMAND…
cat >"$dir/agent" <<'AGENT'
#!/bin/sh
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"
AGENT
chmod +x "$dir/agent"
hosts=(mpirun --timeout 60 --host rlhost1:2,rlhost2:2 --oversubscribe -n 4 --mca plm_rsh_agent "$dir/agent"
  --mca btl tcp,self --mca btl_tcp_if_include 10.213.0.0/24 --mca oob_tcp_if_include 10.213.0.0/24)
"${hosts[@]}" "$dir/rushlight" train "${gpt[@]}" --out "$dir/gpt-hosts" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
same gpt-1 gpt-hosts 1e-5

echo "== a host that goes dark"
"${hosts[@]}" "$dir/rushlight" train "${long[@]}" --out "$dir/dark" >"$dir/log" 2>&1 &
mpirun=$!
under_way "$dir/dark"
ip -n rlhost2 link set eth0 down
begin=$(date +%s%N)
until grep -q "go on from" "$dir/log"; do
  [ $((($(date +%s%N) - begin) / 1000000)) -lt 10000 ] || { cat "$dir/log"; exit 1; }
  sleep 0.1
done
echo "said after $((($(date +%s%N) - begin) / 1000000)) ms: $(grep -h "go on from" "$dir/log" | head -1)"
# Those on the dark host end by themselves; mpirun here waits for its daemon there, which it cannot reach.
until ! pgrep -f "$dir/rushlight train" -l | grep -q rushlight; do
  [ $((($(date +%s%N) - begin) / 1000000)) -lt 12000 ] || { pgrep -af "$dir/rushlight"; break; }
  sleep 0.1
done
echo "no rank left after $((($(date +%s%N) - begin) / 1000000)) ms"
kill $mpirun 2>/dev/null || true
wait $mpirun 2>/dev/null || true
on 2 gpt --resume "$dir/dark"
same long dark 1e-5
