#!/usr/bin/env bash
# Usage: test/kernels/run.sh ARCH SERIES...
# Boots Debian's newest kernel of each SERIES (5.10 …) for ARCH (amd64, arm64) in qemu, one after the other, with an
# initramfs of the agent, Debian's runc and crun, and the guest, which checks one against the other. Kernels and packages
# come by an apt configuration of its own, into .cache/kernels; nothing of the machine's packages is touched. A line for
# each check is in .cache/kernels/ARCH/SERIES.log; shown are those that failed, and the count of each kernel.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=${1:?Usage: test/kernels/run.sh ARCH SERIES...}
shift
dir=$PWD/.cache/kernels/$arch
limit=1800 # seconds for one kernel: an emulated processor takes two to six minutes, a busy machine makes it more

# What runc and crun of Debian 12 need, and no more.
packages=(runc crun libc6 libseccomp2 libsystemd0 libcap2 libyajl2 libgcrypt20 libgpg-error0 liblzma5 libzstd1 liblz4-1)

# no-kaslr and the like stay out: it is to be the kernel as it runs on nodes.
common=(-smp 2 -m 1024 -nographic -nodefaults -serial stdio -no-reboot -net none)
case $arch in
  amd64) qemu=(qemu-system-x86_64 -cpu max "${common[@]}") console=ttyS0 ;;
  arm64) qemu=(qemu-system-aarch64 -M virt -cpu neoverse-n1 "${common[@]}") console=ttyAMA0 ;;
  *) echo "kernels: no architecture $arch" >&2; exit 2 ;;
esac

# apt COMMAND... runs an apt command on Debian's archive for ARCH, apart from the machine's own lists and packages.
apt() {
  "$1" -qq -o Dir::Etc::SourceList="$dir/apt/sources.list" -o Dir::Etc::SourceParts=- -o Dir::Etc::Parts=- \
    -o Dir::State::Lists="$dir/apt/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$dir/apt" \
    -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "${@:2}"
}

# update fetches the lists of packages, once a day.
update() {
  [[ -z $(find "$dir/apt/updated" -mtime -1 2>/dev/null) ]] || return 0
  mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial" "$dir/debs"
  local suite
  for suite in bullseye bookworm trixie trixie-backports; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main"
  done >"$dir/apt/sources.list"
  apt apt-get update
  touch "$dir/apt/updated"
}

# unpack TO PACKAGE[/SUITE]... downloads packages, each once, and unpacks them.
unpack() {
  local to=$1 package
  shift
  (cd "$dir/debs" && apt apt-get download "$@")
  mkdir -p "$to"
  for package in "$@"; do
    dpkg-deb -x "$(find "$dir/debs" -name "${package%/*}_*.deb" -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2)" "$to"
  done
}

# kernel SERIES names the package with the newest kernel of a series; from 7.x on it is one that linux-image depends on.
kernel() {
  local names
  names=$(apt apt-cache pkgnames linux-)
  grep -E "^linux-(image|binary)-${1//./\\.}\.[0-9].*-cloud-$arch\$" <<<"$names" | sed 's/^linux-\([a-z]*\)-\(.*\)/\2 \1/' |
    sort -V | awk '$2 == "binary" || $1 != last { name = "linux-" $2 "-" $1 } { last = $1 } END { print name }'
}

build() {
  rm -rf "$dir/root"
  unpack "$dir/root" "${packages[@]/%//bookworm}"
  rm -rf "$dir"/root/usr/{share,lib/*/gconv}
  CGO_ENABLED=0 GOARCH=$arch go build -trimpath -o "$dir/root/agent" ./cmd/agent
  CGO_ENABLED=0 GOARCH=$arch go build -trimpath -o "$dir/root/init" ./test/kernels/guest
  CGO_ENABLED=0 GOARCH=$arch go build -trimpath -o "$dir/root/rootfs/probe" ./test/kernel/probe
  cp "$dir/root/rootfs/probe" "$dir/root/marked"
  (cd "$dir/root" && find . | cpio --quiet -o -H newc | gzip -1) >"$dir/initramfs.gz"
}

# boot SERIES runs the guest, and prints its last line; it fails where that does not say that all is well.
boot() {
  local package vmlinuz last
  package=$(kernel "$1")
  if [[ -z $package ]]; then
    echo "kernel $1: SKIP, Debian has none"
    return
  fi
  rm -rf "$dir/boot"
  unpack "$dir/boot" "$package"
  vmlinuz=$(find "$dir/boot" -name 'vmlinuz*' -print -quit)
  timeout --kill-after=5 "$limit" "${qemu[@]}" -kernel "$vmlinuz" -initrd "$dir/initramfs.gz" \
    -append "console=$console quiet panic=-1" </dev/null 2>&1 | sed -u 's/\r//g' >"$dir/$1.log" || true
  grep '^FAIL' "$dir/$1.log" || true
  last=$(grep -E '^kernel .*: [0-9]+ passed, [0-9]+ failed$' "$dir/$1.log" || true)
  if [[ -z $last ]]; then
    tail -20 "$dir/$1.log"
    last="kernel $1: it did not come to an end in $limit s, 1 failed"
  fi
  echo "$last"
  [[ $last == *', 0 failed' ]]
}

update
build
failed=()
for series in "$@"; do
  boot "$series" || failed+=("$series")
done
echo "kernels on $arch: $(($# - ${#failed[@]})) of $# well${failed:+, not ${failed[*]}}; each check: .cache/kernels/$arch/*.log"
((!${#failed[@]}))
