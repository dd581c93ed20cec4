#!/bin/sh
# Prints what git describe says as a version that packages may have, in two words:
# the version and, if there is one, the pre-release, which sorts before it.
#
#   v1.2.0             1.2.0
#   v1.2.0-rc.1        1.2.0 rc.1
#   v1.2.0-7-gabc1234  1.2.0+7.gabc1234, which sorts behind 1.2.0
#   abc1234            0.0.0+20260102030405.gabc1234 with the time of the commit,
#                      SOURCE_DATE_EPOCH, lest a newer build sort before an older
# and -dirty at the end of each becomes .dirty behind a plus sign.
#
# usage: version.sh VERSION
set -eu

v=${1#v}
case $v in
'' | *[!A-Za-z0-9.+-]*)
	echo "version.sh: no package can have the version '$v'" >&2
	exit 1
	;;
esac

dirty=
case $v in
*-dirty) v=${v%-dirty} dirty=.dirty ;;
esac

extra=
if printf '%s\n' "$v" | grep -Eq -- '-[0-9]+-g[0-9a-f]+$'; then
	hash=${v##*-}
	v=${v%-*}
	extra=${v##*-}.$hash
	v=${v%-*}
elif ! printf '%s\n' "$v" | grep -Eq '^[0-9]+\.[0-9]+'; then
	extra=$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y%m%d%H%M%S).g$v
	v=0.0.0
fi
extra=$extra$dirty
extra=${extra#.}
[ -z "$extra" ] || extra=+$extra

case $v in
*-*) pre=$(printf '%s' "${v#*-}" | tr -- - .) && v=${v%%-*} && set -- "$v" "$pre$extra" ;;
*) set -- "$v$extra" ;;
esac
echo "$*"
