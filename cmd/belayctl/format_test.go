package main

import (
	"strings"
	"testing"
	"time"
)

func TestNumbers(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{count(0), "0"},
		{count(-3), "-3"},
		{count(9999), "9999"},
		{count(10000), "10.0k"},
		{count(uint64(99949)), "99.9k"},
		{count(uint64(999499)), "999k"},
		{count(uint64(999600)), "1.00M"},
		{count(uint64(1234567)), "1.23M"},
		{count(^uint64(0)), "18.4E"},
		{rate(0), "0"},
		{rate(0.04), "0.0"},
		{rate(9.94), "9.9"},
		{rate(9.96), "10"},
		{rate(1234.5), "1234"},
		{rate(12345), "12.3k"},
		{size(0), "0B"},
		{size(1023), "1023B"},
		{size(1024), "1.00KiB"},
		{size(1536 << 10), "1.50MiB"},
		{size(123 << 30), "123GiB"},
		{latency(0.5, 0), "-"},
		{latency(0, 1), "0µs"},
		{latency(0.000_75, 1), "750µs"},
		{latency(0.001, 1), "1.00ms"},
		{latency(0.0123, 1), "12.3ms"},
		{latency(0.123, 1), "123ms"},
		{latency(1.5, 1), "1.50s"},
		{latency(120, 1), "120s"},
		{age(-time.Second), "0s"},
		{age(59 * time.Second), "59s"},
		{age(61 * time.Second), "1m01s"},
		{age(90 * time.Minute), "1h30m"},
		{age(75 * time.Hour), "3d03h"},
		{printable("a\tb\x1b[1mü"), "a?b?[1mü"},
		{clip("abcdef", 6), "abcdef"},
		{clip("abcdefü", 6), "abcde…"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func TestSheet(t *testing.T) {
	s := newSheet("NAME", ">N", "LAST")
	s.add("a", "1", "x")
	s.add("long\tname", "1234", "µ")
	s.add("ü", "22", "")
	want := strings.Join([]string{
		"NAME          N  LAST",
		"a             1  x",
		"long?name  1234  µ",
		"ü            22  ",
		"",
	}, "\n")
	if got := s.String(); got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
