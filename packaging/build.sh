#!/bin/sh
# Builds the packages of one version into a directory: deb, rpm and archlinux for
# every architecture. Run from the top of the sources; make packages does that.
#
# usage: build.sh VERSION DIR [ARCH…]     ARCH as Go names them; amd64 arm64
#
# environment:
#   SOURCE_DATE_EPOCH  time of everything in the packages, in seconds; required
#   MAINTAINER         "name <address>"; required
#   GO, NFPM           commands
#
# The same sources, version and time make the same bytes: nothing of a file's own
# time or mode, of the umask, locale or path gets into a package.
set -eu
export LC_ALL=C TZ=UTC
umask 022

version=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- amd64 arm64
: "${SOURCE_DATE_EPOCH:?}" "${MAINTAINER:?}"
export SOURCE_DATE_EPOCH MAINTAINER
go=${GO:-go}
nfpm=${NFPM:-$go tool -modfile=tools/nfpm/go.mod nfpm}

words=$(packaging/version.sh "$version")
PKG_VERSION=${words%% *}
PKG_PRERELEASE=${words#"$PKG_VERSION"}
PKG_PRERELEASE=${PKG_PRERELEASE# }
export PKG_VERSION PKG_PRERELEASE

STAGE=$(mktemp -d)
export STAGE
trap 'rm -rf "$STAGE"' EXIT
trap 'exit 1' HUP INT TERM

# The program of this machine writes the completions, whatever is built.
GOOS='' GOARCH='' CGO_ENABLED=0 $go build -trimpath -buildvcs=false -o "$STAGE/host/" ./cmd/belayctl
for shell in bash zsh fish; do
	"$STAGE/host/belayctl" completion "$shell" >"$STAGE/belayctl.$shell"
done

for page in man/*.[1-8]; do
	gzip -9n <"$page" >"$STAGE/${page##*/}.gz"
done
packaging/deb/changelog.sh "$PKG_VERSION${PKG_PRERELEASE:+~$PKG_PRERELEASE}-1" <CHANGELOG.md |
	gzip -9n >"$STAGE/changelog.Debian.gz"

mkdir -p "$out"
for ARCH; do
	export ARCH
	GOOS=linux GOARCH=$ARCH CGO_ENABLED=0 $go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" \
		-o "$STAGE/" ./cmd/belayd ./cmd/belayctl
	for kind in deb rpm archlinux; do
		# nfpm has its errors on stdout, among what is of no interest otherwise.
		$nfpm package --config nfpm.yaml --packager "$kind" --target "$out/" >"$STAGE/log" || {
			cat "$STAGE/log" >&2
			exit 1
		}
	done
done
