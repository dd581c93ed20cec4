package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// entry is a member of a JSON object, in the order of the object.
type entry struct {
	key   string
	value json.RawMessage
}

// entries takes an object apart.
func entries(raw json.RawMessage) ([]entry, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil { // the brace
		return nil, err
	}
	var list []entry
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, entry{key.(string), value}) // JSON has no other keys
	}
	return list, nil
}

// without takes a member out of an object; found is nil if there is none.
func without(raw json.RawMessage, key string) (rest, found json.RawMessage, err error) {
	list, err := entries(raw)
	if err != nil {
		return nil, nil, err
	}
	b := bytes.NewBufferString("{")
	for _, e := range list {
		if e.key == key {
			found = e.value
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(e.key)
		if err != nil {
			return nil, nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(e.value)
	}
	b.WriteByte('}')
	return b.Bytes(), found, nil
}

// isTable tells whether raw is an object.
func isTable(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// tables returns the elements of an array of objects, nil if raw is none.
func tables(raw json.RawMessage) []json.RawMessage {
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) == 0 || !isTable(list[0]) {
		return nil
	}
	return list
}

// lookup finds what is at path, such as listener.web.route[0].respond. Keys
// other than bare ones may be quoted.
func lookup(raw json.RawMessage, path string) (json.RawMessage, error) {
	for rest := path; rest != ""; {
		key, after, err := step(rest)
		if err != nil {
			return nil, usageError{fmt.Errorf("path %q: %w", path, err)}
		}
		found, err := child(raw, key)
		if err != nil {
			return nil, fmt.Errorf("the configuration has no %s: %w", strings.TrimRight(path[:len(path)-len(after)], ".["), err)
		}
		raw, rest = found, after
	}
	return raw, nil
}

// step takes the first key or "[index]" off path.
func step(path string) (key, rest string, err error) {
	switch path[0] {
	case '[':
		end := strings.IndexByte(path, ']')
		if end < 2 {
			return "", "", fmt.Errorf("an index is written [0]")
		}
		key, rest = path[:end+1], path[end+1:]
	case '"':
		if key, err = strconv.QuotedPrefix(path); err != nil {
			return "", "", fmt.Errorf("a quote does not end")
		}
		rest = path[len(key):]
		if key, err = strconv.Unquote(key); err != nil {
			return "", "", err
		}
	default:
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		key, rest = path[:end], path[end:]
	}
	after, dot := strings.CutPrefix(rest, ".")
	if key == "" || dot && after == "" || !dot && rest != "" && rest[0] != '[' {
		return "", "", fmt.Errorf("keys are separated by one dot")
	}
	return key, after, nil
}

// child is the member key of an object, or the element "[n]" of an array.
func child(raw json.RawMessage, key string) (json.RawMessage, error) {
	if number, ok := strings.CutPrefix(key, "["); ok {
		var list []json.RawMessage
		i, err := strconv.Atoi(strings.TrimSuffix(number, "]"))
		if err != nil || json.Unmarshal(raw, &list) != nil {
			return nil, fmt.Errorf("not a list with numbers")
		}
		if i < 0 || i >= len(list) {
			return nil, fmt.Errorf("the list has %d elements", len(list))
		}
		return list[i], nil
	}
	if !isTable(raw) {
		return nil, fmt.Errorf("not a table")
	}
	list, err := entries(raw)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if e.key == key {
			return e.value, nil
		}
		names = append(names, e.key)
	}
	return nil, fmt.Errorf("there is %s", strings.Join(names, ", "))
}

// writeTOML writes the value at path as TOML: tables under their headings, a
// listener's routes as [[listener.NAME.route]], all other tables in one line.
func writeTOML(w io.Writer, path string, raw json.RawMessage) error {
	var b bytes.Buffer
	var err error
	switch list := tables(raw); {
	case isTable(raw):
		err = section(&b, headingOf(path), raw, strings.HasSuffix(path, "]"))
	case list != nil:
		for _, t := range list {
			err = section(&b, headingOf(path), t, true)
		}
	default:
		err = inline(&b, raw)
		b.WriteByte('\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(bytes.TrimLeft(b.Bytes(), "\n"))
	return err
}

// headingOf is path as a TOML heading: without indices.
func headingOf(path string) string {
	for {
		before, after, found := strings.Cut(path, "[")
		if !found {
			return path
		}
		_, after, _ = strings.Cut(after, "]")
		path = before + after
	}
}

// section writes a table, its own keys before the tables inside.
func section(b *bytes.Buffer, heading string, raw json.RawMessage, element bool) error {
	list, err := entries(raw)
	if err != nil {
		return err
	}
	var own, inner []entry
	for _, e := range list {
		if !element && (isTable(e.value) || e.key == "route" && tables(e.value) != nil) {
			inner = append(inner, e)
		} else {
			own = append(own, e)
		}
	}
	if heading != "" && (len(own) > 0 || len(inner) == 0) {
		if element {
			fmt.Fprintf(b, "\n[[%s]]\n", heading)
		} else {
			fmt.Fprintf(b, "\n[%s]\n", heading)
		}
	}
	for _, e := range own {
		fmt.Fprintf(b, "%s = ", tomlKey(e.key))
		if err := inline(b, e.value); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	for _, e := range inner {
		at := tomlKey(e.key)
		if heading != "" {
			at = heading + "." + at
		}
		elements := tables(e.value)
		if elements == nil {
			elements = []json.RawMessage{e.value}
		}
		for _, t := range elements {
			if err := section(b, at, t, !isTable(e.value)); err != nil {
				return err
			}
		}
	}
	return nil
}

// inline writes a value in one line; only an array of tables, which TOML lets
// have several, gets one for each.
func inline(b *bytes.Buffer, raw json.RawMessage) error {
	switch {
	case isTable(raw):
		list, err := entries(raw)
		if err != nil {
			return err
		}
		b.WriteString("{")
		for i, e := range list {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(b, " %s = ", tomlKey(e.key))
			if err := inline(b, e.value); err != nil {
				return err
			}
		}
		b.WriteString(" }")
	case len(raw) > 0 && raw[0] == '[':
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		return array(b, list)
	case len(raw) > 0 && raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		b.WriteString(tomlString(s))
	default:
		b.Write(raw) // numbers and booleans look the same
	}
	return nil
}

func array(b *bytes.Buffer, list []json.RawMessage) error {
	before, between, after := "", ", ", ""
	if len(list) > 1 && isTable(list[0]) {
		before, between, after = "\n  ", ",\n  ", ",\n"
	}
	b.WriteString("[" + before)
	for i, e := range list {
		if i > 0 {
			b.WriteString(between)
		}
		if err := inline(b, e); err != nil {
			return err
		}
	}
	b.WriteString(after + "]")
	return nil
}

// tomlKey quotes a key unless it is a bare one.
func tomlKey(k string) string {
	for i := range len(k) {
		c := k[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return tomlString(k)
		}
	}
	if k == "" {
		return `""`
	}
	return k
}

// tomlString is a basic string; its escapes are those of JSON and more.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
