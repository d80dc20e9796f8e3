#!/usr/bin/env bash
# Usage: test/kernels/run.sh ARCH SERIES...
# Boots Debian's newest cloud kernel of each SERIES (5.10 …, or newest: the newest there is) for ARCH (amd64, arm64) in
# qemu, with an initramfs of the agent, Debian's runc and crun, and the guest, which checks one against the other. Some
# boot beside each other, KERNELS_AT_ONCE of them: by default one for each processor.
#
# Kernels and packages come from the Debian mirror of this machine's apt configuration, by a configuration of their own,
# into $XDG_CACHE_HOME/containerhook/kernels; nothing of the machine's packages is touched. A line for each check is in
# .cache/kernels/ARCH/SERIES.log; shown are those that failed, and the count and the time of each kernel. The sum goes to
# .cache/suites/counts. With WRITE_DOCS=1 the rows of these kernels in docs/kernels.md are written, from a clean tree.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=${1:?Usage: test/kernels/run.sh ARCH SERIES...}
: "${2:?Usage: test/kernels/run.sh ARCH SERIES...}"
shift
docs=docs/kernels.md
dir=$PWD/.cache/kernels/$arch
cache=${XDG_CACHE_HOME:-$HOME/.cache}/containerhook/kernels/$arch
limit=1800 # seconds for one kernel: an emulated processor takes one to four minutes, a busy machine makes it more
at_once=${KERNELS_AT_ONCE:-$(nproc)}

suites=(bullseye bookworm trixie trixie-backports)
# What runc and crun of Debian 12 need, and no more.
packages=(runc crun libc6 libseccomp2 libsystemd0 libcap2 libyajl2 libgcrypt20 libgpg-error0 liblzma5 libzstd1 liblz4-1)

# no-kaslr and the like stay out: it is to be the kernel as it runs on nodes. no_timer_check is what a kernel sets for itself
# under KVM: on a busy machine an emulated timer is late, and 5.10 panics of it while it boots.
# Two processors take turns in one thread of qemu: where each has its own, one executes code that the other has patched
# meanwhile (7.3: "Oops: int3" in a static key).
# shellcheck disable=SC2054 # the comma is qemu's
common=(-accel tcg,thread=single -smp 2 -m 1024 -nographic -nodefaults -serial stdio -no-reboot -net none)
case $arch in
  amd64) qemu=(qemu-system-x86_64 -cpu max "${common[@]}") console='ttyS0 no_timer_check' ;;
  arm64) qemu=(qemu-system-aarch64 -M virt -cpu neoverse-n1 "${common[@]}") console=ttyAMA0 ;;
  *) echo "kernels: no architecture $arch" >&2; exit 2 ;;
esac

# mirror prints the URI of Debian's archive, as this machine has it configured.
mirror() {
  local uris
  # shellcheck disable=SC2016 # expanded by apt-get
  local targets=(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 'Component: main' 'Identifier: Packages')
  uris=$("${targets[@]}")
  if [[ -z $uris ]] && ((EUID == 0)); then
    apt-get -qq update >&2 # no list was fetched yet, and they say whose archive it is
    uris=$("${targets[@]}")
  fi
  if [[ -z $uris ]]; then
    echo "kernels: this machine's apt configuration has no list of Debian's archive; as root: apt-get update" >&2
    return 1
  fi
  head -1 <<<"$uris"
}

# apt COMMAND... runs an apt command on Debian's archive for ARCH, apart from the machine's own lists and packages.
apt() {
  "$1" -qq -o Dir::Etc::SourceList="$cache/sources.list" -o Dir::Etc::SourceParts=- \
    -o Dir::State::Lists="$cache/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$cache" \
    -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "${@:2}"
}

# update fetches the lists of packages, once a day.
update() {
  local uri suite sources
  uri=$(mirror)
  sources=$(for suite in "${suites[@]}"; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
  done)
  mkdir -p "$cache/lists/partial" "$cache/archives/partial" "$cache/debs"
  if [[ $sources == "$(cat "$cache/sources.list" 2>/dev/null)" && -n $(find "$cache/updated" -mtime -1 2>/dev/null) ]]; then
    return
  fi

  echo "$sources" >"$cache/sources.list"
  # A suite that the mirror lacks costs its kernels only: they fail by their names.
  if apt apt-get update; then
    touch "$cache/updated"
  fi
}

# download PACKAGE[/SUITE]... fetches the packages that are not there yet, and prints their files.
download() {
  local uris file size
  uris=$(cd / && apt apt-get download --print-uris "$@") # where a file is, apt-get has nothing to print
  while read -r _ file size _; do
    if [[ $(stat -c %s "$cache/debs/$file" 2>/dev/null) != "$size" ]]; then
      rm -f "$cache/debs/$file" # a part of it, of a download that was interrupted
      (cd "$cache/debs" && apt apt-get download "$@" >&2)
    fi
    echo "$cache/debs/$file"
  done <<<"$uris"
}

# kernel SERIES prints the package with the newest kernel of a series; from 6.19 on it is one that linux-image depends on.
kernel() {
  local names series=${1//./\\.}
  [[ $1 != newest ]] || series='[0-9]+\.[0-9]+'
  names=$(apt apt-cache pkgnames linux-)
  { grep -E "^linux-(image|binary)-$series\.[0-9].*-cloud-$arch\$" <<<"$names" || true; } |
    sed 's/^linux-\([a-z]*\)-\(.*\)/\2 \1/' | sort -V |
    awk '$2 == "binary" || $1 != last { name = "linux-" $2 "-" $1 } { last = $1 } END { print name }'
}

# runtimes unpacks what the guest needs of Debian's.
runtimes() {
  local files file
  files=$(download "${packages[@]/%//bookworm}")
  rm -rf "$dir/root"
  mkdir -p "$dir/root"
  while read -r file; do
    dpkg-deb -x "$file" "$dir/root"
  done <<<"$files"
  rm -rf "$dir"/root/usr/{share,lib/*/gconv}
}

# build compiles what the guest needs of this project, and packs the initramfs.
build() {
  CGO_ENABLED=0 GOARCH=$arch go build -trimpath -o "$dir/root/agent" ./cmd/agent
  CGO_ENABLED=0 GOARCH=$arch go build -trimpath -o "$dir/root/init" ./test/kernels/guest
  CGO_ENABLED=0 GOARCH=$arch go build -trimpath -o "$dir/root/rootfs/probe" ./test/kernel/probe
  cp "$dir/root/rootfs/probe" "$dir/root/marked"
  (cd "$dir/root" && find . | cpio --quiet -o -H newc | gzip -1) >"$dir/initramfs.gz"
}

# fetch SERIES unpacks its kernel to SERIES.vmlinuz, and puts its release in releases; it fails where Debian has none.
declare -A releases=()
fetch() {
  local package file
  package=$(kernel "$1")
  if [[ -z $package ]]; then
    echo "kernel $1: FAIL, Debian has none for $arch in ${suites[*]}"
    return 1
  fi
  if ! file=$(download "$package") ||
    ! dpkg-deb --fsys-tarfile "$file" | tar -x -O --wildcards '*/vmlinuz*' >"$dir/$1.vmlinuz" || [[ ! -s $dir/$1.vmlinuz ]]; then
    echo "kernel $1: FAIL, $package cannot be had"
    return 1
  fi
  releases[$1]=${package#linux-*-}
}

# boot SERIES begins to run the guest, and notes its process. That is qemu's own, so that it can be ended.
declare -A booted=() began=()
boot() {
  timeout --kill-after=5 "$limit" "${qemu[@]}" -kernel "$dir/$1.vmlinuz" -initrd "$dir/initramfs.gz" \
    -append "console=$console quiet panic=-1" </dev/null >"$dir/$1.log" 2>&1 &
  booted[$!]=$1
  began[$1]=$SECONDS
}

passed=0 failed=0 rows=()

# finish waits for one guest, whichever ends first, and counts its checks.
finish() {
  local pid status=0 series log last p f
  wait -n -p pid "${!booted[@]}" || status=$?
  series=${booted[$pid]} log=$dir/${booted[$pid]}.log
  unset "booted[$pid]"
  sed -i 's/\r//g' "$log"

  grep -a '^FAIL' "$log" || true
  last=$(grep -a -E '^kernel .*: [0-9]+ passed, [0-9]+ failed$' "$log" || true)
  if [[ $last =~ ([0-9]+)" passed, "([0-9]+)" failed"$ ]]; then
    p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]}
  else
    tail -20 "$log"
    if ((status == 124)); then # of timeout
      echo "kernel $series: FAIL, it did not come to an end in $limit s"
    else
      echo "kernel $series: FAIL, it ended before its checks did (qemu: exit code $status)"
    fi
    p=$(grep -a -c '^PASS' "$log" || true)
    f=$(($(grep -a -c '^FAIL' "$log" || true) + 1))
  fi

  echo "kernel ${releases[$series]} on $arch: $p passed, $f failed ($((SECONDS - began[$series])) s)"
  passed=$((passed + p)) failed=$((failed + f))
  rows+=("${releases[$series]} $p $f")
}

# write_docs replaces the rows of these kernels between the markers of docs/kernels.md, and keeps those of other series and
# architectures.
write_docs() {
  local row release p f
  for row in "${rows[@]}"; do
    read -r release p f <<<"$row"
    # The series is what a row is known by: the first two numbers of the release.
    sed -i -E "/^\| ${release%%.*}\.$(cut -d. -f2 <<<"$release")\.[^|]* \| $arch \|/d" "$docs"
    sed -i "/^<!-- END KERNELS -->/i | $release | $arch | $p | $f | $commit | $(date -u +%F) |" "$docs"
  done

  # In order: by architecture, then by release.
  local sorted
  sorted=$(sed -n '/^<!-- BEGIN KERNELS/,/^<!-- END KERNELS/p' "$docs" | grep -E '^\| [0-9]' | sort -t'|' -k3,3 -k2,2V)
  SORTED=$sorted awk '/^<!-- END KERNELS/ { print ENVIRON["SORTED"]; within = 0 }
    /^<!-- BEGIN KERNELS/ { within = 1 }
    !(within && /^\| [0-9]/)' "$docs" >"$dir/kernels.md"
  cat "$dir/kernels.md" >"$docs"
}

if [[ -n ${WRITE_DOCS:-} && -n $(git status --porcelain -- . ":!$docs") ]]; then
  echo "kernels: WRITE_DOCS=1 is for a clean tree: the table names the commit" >&2
  exit 2
fi

commit=$(git rev-parse --short HEAD)
mkdir -p "$dir" "$cache"
trap '((!${#booted[@]})) || kill "${!booted[@]}"' EXIT
trap 'exit 130' INT TERM # and so to that
exec 9>"$cache/lock"
flock 9 # another checkout may fill the same cache
update
runtimes
ready=()
for series in "$@"; do
  if fetch "$series"; then
    ready+=("$series")
  else
    failed=$((failed + 1))
  fi
done
exec 9>&-
build

for series in "${ready[@]}"; do
  ((${#booted[@]} < at_once)) || finish
  boot "$series"
done
while ((${#booted[@]})); do
  finish
done

[[ -z ${WRITE_DOCS:-} ]] || write_docs
mkdir -p .cache/suites
echo "kernels $passed $failed 0 $SECONDS" >>.cache/suites/counts
echo "each check: .cache/kernels/$arch/*.log"
echo "suite kernels: $passed passed, $failed failed, 0 skipped ($SECONDS s)"
((!failed))
