package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// none stands where there is nothing to show.
const none = "-"

// scaled writes x with three digits that count and the unit that fits, each
// step times as large as the one before.
func scaled(x, step float64, units ...string) string {
	i := 0
	for i < len(units)-1 && x >= step-step/2000 { // 999.6k is 1.00M
		x /= step
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f%s", x, units[0])
	}
	return significant(x) + units[i]
}

// count writes a number; five digits and more are shortened.
func count[N int | int64 | uint64](n N) string {
	if n < 10000 {
		return fmt.Sprint(n)
	}
	return scaled(float64(n), 1000, "", "k", "M", "G", "T", "P", "E")
}

// rate writes a number per second.
func rate(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 9.95:
		return fmt.Sprintf("%.1f", x)
	case x < 9999.5:
		return fmt.Sprintf("%.0f", x)
	}
	return scaled(x, 1000, "", "k", "M", "G")
}

// size writes a number of bytes.
func size(n float64) string {
	return scaled(n, 1024, "B", "KiB", "MiB", "GiB", "TiB", "PiB")
}

// latency writes a time in seconds; of no times there is none.
func latency(s float64, n uint64) string {
	switch {
	case n == 0:
		return none
	case s < 999.5e-6:
		return fmt.Sprintf("%.0fµs", s*1e6)
	case s < 999.5e-3:
		return significant(s*1e3) + "ms"
	}
	return significant(s) + "s"
}

// significant writes x ≥ 1 with three digits that count, whole numbers above.
func significant(x float64) string {
	switch {
	case x < 9.995:
		return fmt.Sprintf("%.2f", x)
	case x < 99.95:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// age writes how long something has lasted, in its two largest units.
func age(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// printable replaces what would move a cursor or break a table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// clip shortens s to n runes and shows that it did.
func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n || n < 1 {
		return s
	}
	return string(r[:n-1]) + "…"
}
