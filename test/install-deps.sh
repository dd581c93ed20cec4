#!/bin/sh
# Installs from Debian what the tests run belay against. Needs root.
#
# Nothing installed here may serve: the distribution's services are kept from
# starting while apt-get runs, and those that came new are disabled afterwards,
# so that neither now nor after a reboot a port is taken by them.
set -eu

# One package a line, with the reason. Names are pinned, versions are the
# release's: Debian removes a version when it replaces it with a fixed one.
packages='
ca-certificates
curl
dbus
debootstrap
gcc
gnutls-bin
haproxy
iproute2
libarchive-tools
libc6-dev
libnginx-mod-stream
lintian
logrotate
mandoc
nghttp2-client
nginx-light
openssl
postgresql
procps
prometheus
python3
python3-websockets
redis-server
rpm
shellcheck
strace
systemd
util-linux
sslscan
wrk
'
# gcc, libc6-dev: the race detector links with cgo. nghttp2-client: h2load.
# prometheus: promtool. util-linux: prlimit, taskset. procps: what a person
# needs to look at a test that hangs. debootstrap: the root of a newer Debian.
# gnutls-bin: gnutls-cli, which is no OpenSSL. sslscan: what is old or weak.
# lintian, rpm, libarchive-tools (bsdtar), shellcheck: make packages-check.
services='nginx haproxy postgresql prometheus prometheus-node-exporter redis-server'

missing=
for p in $packages; do
	status=$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "install-deps: not root, not installed:$missing" >&2
	exit 0
fi

fresh=
for s in $services; do
	[ -e "/lib/systemd/system/$s.service" ] || fresh="$fresh $s"
done

# invoke-rc.d and deb-systemd-invoke ask this file; 101 is "do not".
policy=/usr/sbin/policy-rc.d
aside=
restore() {
	rm -f "$policy"
	[ -z "$aside" ] || mv "$aside" "$policy"
}
if [ -e "$policy" ]; then
	aside=$policy.belay-test
	mv "$policy" "$aside"
fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
echo "install-deps: installing$missing"
apt-get -qq update
# shellcheck disable=SC2086 # a list of names on purpose
apt-get -qq install -y --no-install-recommends $missing >/dev/null

if command -v systemctl >/dev/null 2>&1; then
	for s in $fresh; do
		[ -e "/lib/systemd/system/$s.service" ] || continue
		systemctl disable "$s" >/dev/null 2>&1 || true
	done
fi
