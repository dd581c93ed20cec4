#!/bin/sh
# Proves that the packages in a directory can be made again, byte for byte, from a
# copy of the sources elsewhere, with other file times, another umask, time zone and
# locale; and has them and their scripts looked at by shellcheck, lintian, rpm and
# bsdtar where these are installed.
# Run from the top of the sources; make packages-check does that.
#
# usage: check.sh VERSION DIR [ARCH…]; environment as for build.sh
set -eu

version=$1 dir=$(cd "$2" && pwd)
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
go=${GO:-go}
NFPM=${NFPM:-$go tool -modfile=$PWD/tools/nfpm/go.mod nfpm}
export NFPM

mkdir "$work/sources"
git ls-files -z --cached --others --exclude-standard |
	tar -c --ignore-failed-read --null -T - | tar -x -m -C "$work/sources"
(
	cd "$work/sources"
	umask 077
	TZ=Asia/Kathmandu LANG=C.UTF-8 LC_ALL=C.UTF-8 packaging/build.sh "$version" "$work/again" "$@"
)
(cd "$dir" && sha256sum -- *.deb *.rpm *.pkg.tar.zst) >"$work/first.sums"
(cd "$work/again" && sha256sum -- *.deb *.rpm *.pkg.tar.zst) >"$work/again.sums"
diff -u "$work/first.sums" "$work/again.sums"
echo "packages-check: made twice, the same: $(wc -l <"$work/first.sums") packages"

if command -v shellcheck >/dev/null; then
	shellcheck packaging/*.sh packaging/deb/changelog.sh packaging/deb/p*
	shellcheck --shell=sh packaging/rpm/* packaging/arch/*
	echo "packages-check: shellcheck has nothing to say"
fi
if command -v lintian >/dev/null; then
	lintian --fail-on=error,warning --allow-root --no-cfg "$dir"/*.deb
	echo "packages-check: lintian has nothing to say"
fi
if command -v rpm >/dev/null; then
	for f in "$dir"/*.rpm; do
		rpm -K --nosignature "$f" >/dev/null
		rpm -qp --nosignature --scripts "$f" | grep -q 'systemctl reload belay.service'
		[ "$(rpm -qp --nosignature --configfiles "$f")" = "/etc/belay/belay.toml
/etc/logrotate.d/belay" ]
	done
	echo "packages-check: rpm reads its packages"
fi
if command -v bsdtar >/dev/null; then
	for f in "$dir"/*.pkg.tar.zst; do
		bsdtar -xqOf "$f" .PKGINFO | grep -q '^backup = etc/belay/belay.toml$'
		bsdtar -xqOf "$f" .INSTALL | bash -n
		# /usr/sbin is a link there, which no package may have files in.
		if bsdtar -tf "$f" | grep '^usr/sbin'; then exit 1; fi
	done
	echo "packages-check: the archives for pacman are whole"
fi
