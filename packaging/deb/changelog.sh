#!/bin/sh
# Turns CHANGELOG.md (stdin) into a changelog as Debian has it (stdout,
# deb-changelog(5)): an entry for each "## " section, the bullets of it, and the
# "### " headings in brackets.
#
# usage: changelog.sh VERSION
#
# VERSION, with its revision, is that of the newest entry, dated SOURCE_DATE_EPOCH.
# Older ones are "## 1.2.0 - 2026-01-02" or the like; MAINTAINER signs them all.
set -eu
export LC_ALL=C

now=$(date -u -R -d "@$SOURCE_DATE_EPOCH")

# Paragraphs first, a line each, for fold to break.
awk '
	function flush() { if (text != "") print text; text = "" }
	/^## / { flush(); print; next }
	/^### / { flush(); print; next }
	/^- / { flush(); text = $0; next }
	/^[ \t]+[^ \t]/ && text != "" { sub(/^[ \t]+/, " "); text = text $0; next }
	{ flush() }
	END { flush() }
' | {
	entry=
	close_entry() { [ -z "$entry" ] || printf '\n -- %s  %s\n\n' "$MAINTAINER" "$date"; }
	while IFS= read -r line; do
		case $line in
		'## '*)
			close_entry
			if [ -z "$entry" ]; then
				entry=$1 date=$now
			else
				# shellcheck disable=SC2086 # words
				set -- ${line#'## '}
				entry=$1-1
				for date; do :; done
				date=$(date -u -R -d "$date")
			fi
			printf 'belay (%s) unstable; urgency=medium\n\n' "$entry"
			gap=
			;;
		'### '*)
			printf '%s  [ %s ]\n' "$gap" "${line#'### '}"
			gap='
'
			;;
		'- '*)
			[ -z "$entry" ] ||
				printf '%s\n' "${line#- }" | fold -s -w 74 | sed 's/ *$//; 1s/^/  * /; 2,$s/^/    /'
			;;
		esac
	done
	close_entry
}
