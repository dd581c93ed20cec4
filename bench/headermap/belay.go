package main

import (
	"bytes"

	"belay/internal/header"
)

var belay = library{"belay", map[string]setup{
	"Create":                        belayCreate,
	"SetReference":                  belaySetReference,
	"Get":                           belayGet,
	"GetInline":                     belayGetInline,
	"SetInlineMacro":                belaySetInlineMacro,
	"SetInlineInteger":              belaySetInlineInteger,
	"GetByteSize":                   belayGetByteSize,
	"Iterate":                       belayIterate,
	"Remove":                        belayRemove,
	"RemoveInline":                  belayRemoveInline,
	"Populate":                      belayPopulate,
	"EmulateH1toH2Upgrade":          belayH1toH2,
	"EmulateH2toH1Upgrade":          belayH2toH1,
	"RemovePrefix":                  belayRemovePrefix,
	"StaticLookupRequestHits":       belayLookup(requestNames),
	"StaticLookupRequestMisses":     belayLookup(requestMisses),
	"StaticLookupResponseHits":      belayLookup(responseNames),
	"StaticLookupResponseMisses":    belayLookup(responseMisses),
	"insert_custom":                 belayInsert,
	"set_10_get_1_custom_short":     belaySet10(shortName),
	"set_10_get_1_custom_long":      belaySet10(longName),
	"set_10_get_1_custom_very_long": belaySet10(veryLongName),
	"set_8_get_many":                belaySet8(eightMany),
	"set_8_get_miss":                belaySet8([]string{standardMiss}),
	"Parse":                         belayParse,
	"Serialise":                     belaySerialise,
	"ParseEditSerialise":            belayProxy,
}}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func belayFilled(size int) *header.Map {
	m := new(header.Map)
	m.Reset(nil)
	for i := range size {
		check(m.AddName(dummyKey(i), "abcd"))
	}
	return m
}

// belayCreate is what a pooled stream does: it resets the map it has.
func belayCreate(int) func(int) {
	m := belayFilled(0)
	return func(n int) {
		for range n {
			m.Reset(nil)
		}
	}
}

func belaySetReference(size int) func(int) {
	m := belayFilled(size)
	return func(n int) {
		for range n {
			check(m.SetName(customKey, customValue))
		}
	}
}

func belayGet(size int) func(int) {
	m := belayFilled(size)
	check(m.AddName(customKey, customValue))
	return func(n int) {
		for range n {
			sink += len(m.GetName(customKey))
		}
	}
}

func belayGetInline(size int) func(int) {
	m := belayFilled(size)
	check(m.SetString(header.Connection, customValue))
	return func(n int) {
		for range n {
			sink += len(m.Get(header.Connection))
		}
	}
}

func belaySetInlineMacro(size int) func(int) {
	m := belayFilled(size)
	v := []byte(customValue)
	return func(n int) {
		for range n {
			check(m.SetRef(header.Connection, v))
		}
	}
}

func belaySetInlineInteger(size int) func(int) {
	m := belayFilled(size)
	i := int64(0)
	return func(n int) {
		for range n {
			i++
			m.SetInt(header.ContentLength, i)
		}
	}
}

func belayGetByteSize(size int) func(int) {
	m := belayFilled(size)
	return func(n int) {
		for range n {
			sink += m.ByteSize()
		}
	}
}

func belayLengths(m *header.Map) int {
	sum := 0
	for name, value := range m.All() {
		sum += len(name) + len(value)
	}
	return sum
}

func belayIterate(size int) func(int) {
	m := belayFilled(size)
	return func(n int) {
		for range n {
			sink += belayLengths(m)
		}
	}
}

func belayRemove(size int) func(int) {
	m := belayFilled(size)
	key := []byte(customKey)
	return func(n int) {
		for range n {
			check(m.AddName(customKey, customValue))
			sink += m.RemoveName(key)
		}
	}
}

func belayRemoveInline(size int) func(int) {
	m := belayFilled(size)
	v := []byte(customValue)
	return func(n int) {
		for range n {
			check(m.SetRef(header.Connection, v))
			m.Remove(header.Connection)
		}
	}
}

func belayPopulate(int) func(int) {
	m := new(header.Map)
	return func(n int) {
		for range n {
			m.Reset(nil)
			for i := range response {
				check(m.AddName(response[i].name, response[i].value))
			}
		}
	}
}

func belayH1toH2(size int) func(int) {
	base := belayFilled(size)
	check(base.SetString(header.Connection, upgrade))
	check(base.SetString(header.Upgrade, websocket))
	m := new(header.Map)
	return func(n int) {
		for range n {
			m.CopyFrom(base)
			check(m.SetName("x-method", "CONNECT"))
			check(m.SetName("x-protocol", websocket))
			m.Remove(header.Upgrade)
			m.Remove(header.Connection)
			sink += belayLengths(m)
		}
	}
}

func belayH2toH1(size int) func(int) {
	base := belayFilled(size)
	check(base.SetName("x-status", "200"))
	m := new(header.Map)
	return func(n int) {
		for range n {
			m.CopyFrom(base)
			check(m.SetString(header.Upgrade, websocket))
			check(m.SetString(header.Connection, upgrade))
			check(m.SetName("x-status", "101"))
			sink += belayLengths(m)
		}
	}
}

func belayRemovePrefix(size int) func(int) {
	m := belayFilled(80)
	keys := customs(size, "prefix-key-%d")
	return func(n int) {
		for range n {
			for _, key := range keys {
				check(m.AddName(key, "abcd"))
			}
			sink += m.RemovePrefix("prefix-")
		}
	}
}

func belayLookup(names []string) setup {
	return func(int) func(int) {
		var keys [][]byte
		for _, name := range names {
			keys = append(keys, []byte(name))
		}
		return func(n int) {
			for range n {
				for _, key := range keys {
					sink += int(header.Lookup(key))
				}
			}
		}
	}
}

func belayInsert(size int) func(int) {
	names := customs(size, insertName)
	m := new(header.Map)
	return func(n int) {
		for range n {
			m.Reset(nil)
			for _, name := range names {
				check(m.SetName(name, "v"))
			}
		}
	}
}

func belaySet10(format string) setup {
	return func(int) func(int) {
		names := customs(10, format)
		m := new(header.Map)
		return func(n int) {
			for range n {
				m.Reset(nil)
				for _, name := range names {
					check(m.SetName(name, "v"))
				}
				sink += len(m.GetName(names[0]))
			}
		}
	}
}

func belaySet8(get []string) setup {
	return func(int) func(int) {
		m := new(header.Map)
		return func(n int) {
			for range n {
				m.Reset(nil)
				for i := range eight {
					check(m.SetName(eight[i].name, eight[i].value))
				}
				for _, name := range get {
					sink += len(m.GetName(name))
				}
			}
		}
	}
}

// belayLoad splits a head as a codec does, without its checks of each byte.
func belayLoad(m *header.Map, head []byte) {
	m.Reset(head)
	for at := 0; head[at] != '\r'; {
		line := head[at:]
		end := bytes.IndexByte(line, '\n')
		colon := bytes.IndexByte(line[:end], ':')
		if colon <= 0 || line[end-1] != '\r' {
			panic("bad line")
		}
		value := colon + 1
		for line[value] == ' ' || line[value] == '\t' {
			value++
		}
		if _, err := m.AddField(at, colon, at+value, end-1-value); err != nil {
			panic(err)
		}
		at += end + 1
	}
}

func belayParse(int) func(int) {
	m := new(header.Map)
	head := []byte(browser)
	return func(n int) {
		for range n {
			belayLoad(m, head)
		}
	}
}

func belaySerialise(int) func(int) {
	m := new(header.Map)
	belayLoad(m, []byte(browser))
	buf := make([]byte, 0, 4096)
	return func(n int) {
		for range n {
			sinkBytes = m.AppendTo(buf)
		}
	}
}

func belayProxy(int) func(int) {
	m := new(header.Map)
	head, ip, scheme, id := []byte(browser), []byte(clientIP), []byte("https"), []byte(requestID)
	buf := make([]byte, 0, 4096)
	return func(n int) {
		for range n {
			belayLoad(m, head)
			sink += len(m.Get(header.Host)) + len(m.Get(header.Upgrade)) + len(m.Get(header.ContentLength))
			m.Remove(header.Connection)
			check(m.Append(header.XForwardedFor, ", ", ip))
			check(m.SetRef(header.XForwardedProto, scheme))
			check(m.SetRef(header.XRequestID, id))
			sinkBytes = m.AppendTo(buf)
		}
	}
}
