package systemd

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// field is an attribute that is no group.
type field struct {
	name  string // with its groups, joined by dots
	value string
}

// appendText appends a message and its fields as one line without the newline. A
// message that would break the line is quoted.
func appendText(b []byte, message string, fields []field) []byte {
	if printable(message) {
		b = append(b, message...)
	} else {
		b = strconv.AppendQuote(b, message)
	}
	for _, f := range fields {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = appendQuoted(b, f.name)
		b = append(b, '=')
		b = appendQuoted(b, f.value)
	}
	return b
}

// appendQuoted quotes where slog's text handler does.
func appendQuoted(b []byte, s string) []byte {
	if s == "" || strings.ContainsAny(s, " \"=") || !printable(s) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

// printable reports whether s shows itself: a line, valid, and without anything
// that steers a terminal.
func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// valueText is a value as slog's text handler has it, before quotes.
func valueText(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format("2006-01-02T15:04:05.000Z07:00")
	case slog.KindAny:
		return anyText(v.Any())
	}
	return v.String()
}

// anyText lets no method of a logged value take the process down.
func anyText(v any) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprintf("!PANIC: %v", r)
			if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && p.IsNil() {
				text = "<nil>"
			}
		}
	}()
	if m, ok := v.(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return "!ERROR:" + err.Error()
		}
		return string(b)
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8 {
		return string(r.Bytes())
	}
	return fmt.Sprintf("%+v", v)
}

// appendNative appends a field as the Journal Native Protocol has it: what holds
// a newline with its length, 64 bits little-endian, in front.
func appendNative(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	b = append(b, value...)
	return append(b, '\n')
}

// nativeMax is the longest name of a field that journald takes, in bytes.
const nativeMax = 64

// nativeName is BELAY_ and the name as journald allows it; "" if nothing of the
// name is left.
func nativeName(name string) string {
	upper := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z' || '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, name)
	upper = strings.TrimLeft(upper, "_")
	if upper == "" {
		return ""
	}
	full := "BELAY_" + upper
	return full[:min(len(full), nativeMax)]
}

// isID reports whether s is 128 bits in hexadecimal.
func isID(s string) bool {
	if len(s) != 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
