#!/bin/sh
# Installs the newest pgBackRest (Debian sid's) beside the system, to compare with in the benchmark:
#
#   bench/peers/install-pgbackrest.sh [DIRECTORY]      default /opt/aishell-peers
#
# Run as root. It makes a chroot in DIRECTORY/sid (about 400 MB, two minutes) and the launcher DIRECTORY/bin/pgbackrest,
# which runs the chroot's program with the chroot's libraries but on this machine's own files: so that a server outside
# the chroot can name it in archive_command. Running it again continues where it stopped. To remove: rm -r DIRECTORY.
set -eu

directory=${1:-/opt/aishell-peers}
chroot_directory=$directory/sid

fail() {
  echo "install-pgbackrest: $1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || fail "must run as root, because a chroot needs it"
command -v apt-get > /dev/null || fail "needs a Debian machine: apt-get was not found"

# The mirror is the one that apt is already set to.
mirror=$(apt-get indextargets --format '$(CREATED_BY) $(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)' |
  awk '$1 == "Packages" && $2 == "Debian" && $3 == "Debian" && $4 == "main" { print $5; exit }')
[ -n "$mirror" ] || fail "unable to find Debian's mirror in apt's sources. Run apt-get update first"

command -v debootstrap > /dev/null ||
  apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 debootstrap > /dev/null

mounted=
release() {
  for path in $mounted; do umount "$path" || true; done
}
trap release EXIT
trap 'exit 130' INT TERM

# debootstrap cannot continue a chroot it was cut off in; the marker says that it came to its end.
if [ ! -e "$chroot_directory/.complete" ]; then
  rm -rf "$chroot_directory"
  mkdir -p "$directory"
  debootstrap --variant=minbase sid "$chroot_directory" "$mirror" > "$directory/debootstrap.log" 2>&1 ||
    fail "unable to make the chroot. See $directory/debootstrap.log"
  touch "$chroot_directory/.complete"
fi

# No package may start a server in here.
printf '#!/bin/sh\nexit 101\n' > "$chroot_directory/usr/sbin/policy-rc.d"
chmod 755 "$chroot_directory/usr/sbin/policy-rc.d"
for setting in /etc/apt/apt.conf.d/*proxy*; do
  [ -e "$setting" ] && cp "$setting" "$chroot_directory/etc/apt/apt.conf.d/"
done
cp -L /etc/resolv.conf "$chroot_directory/etc/resolv.conf" 2> /dev/null || true

for path in proc dev; do
  mount --bind "/$path" "$chroot_directory/$path"
  mounted="$chroot_directory/$path $mounted"
done
# A mirror may hold a sid older than the week its signature promises; the signature itself is still checked.
chroot "$chroot_directory" env DEBIAN_FRONTEND=noninteractive sh -c \
  'apt-get update -q -o Acquire::Check-Valid-Until=false && apt-get install -y -q --no-install-recommends pgbackrest' > "$directory/install.log" 2>&1 ||
  fail "unable to install pgbackrest in the chroot. See $directory/install.log"

# pgBackRest starts further processes of itself by its own argv[0]: that must be the launcher again, not the program.
loader=$(chroot "$chroot_directory" sh -c 'readlink -f /lib64/ld-linux-x86-64.so.2 || readlink -f /lib/ld-linux-aarch64.so.1')
libraries=$(chroot "$chroot_directory" sh -c 'dirname "$(readlink -f "$1")"' sh "$loader")
mkdir -p "$directory/bin"
cat > "$directory/bin/pgbackrest.new" <<LAUNCHER
#!/bin/sh
root='$chroot_directory'
exec "\$root$loader" --argv0 '$directory/bin/pgbackrest' --library-path "\$root$libraries" "\$root/usr/bin/pgbackrest" "\$@"
LAUNCHER
chmod 755 "$directory/bin/pgbackrest.new"
mv "$directory/bin/pgbackrest.new" "$directory/bin/pgbackrest"
"$directory/bin/pgbackrest" version
