package main

import (
	"strings"

	"github.com/valyala/fasthttp"
)

var fast = library{"fasthttp", map[string]setup{
	"Create":                        fastCreate,
	"SetReference":                  fastSet("Example-Key"),
	"Get":                           fastGet("Example-Key"),
	"GetInline":                     fastGet("Connection"),
	"SetInlineMacro":                fastSet("Connection"),
	"SetInlineInteger":              fastSetInteger,
	"GetByteSize":                   fastByteSize,
	"Iterate":                       fastIterate,
	"Remove":                        fastRemove("Example-Key"),
	"RemoveInline":                  fastRemove("Connection"),
	"Populate":                      fastPopulate,
	"EmulateH1toH2Upgrade":          fastH1toH2,
	"EmulateH2toH1Upgrade":          fastH2toH1,
	"RemovePrefix":                  fastRemovePrefix,
	"StaticLookupRequestHits":       fastLookup(requestNames),
	"StaticLookupRequestMisses":     fastLookup(requestMisses),
	"StaticLookupResponseHits":      fastLookup(responseNames),
	"StaticLookupResponseMisses":    fastLookup(responseMisses),
	"insert_custom":                 fastInsert,
	"set_10_get_1_custom_short":     fastSet10(shortName),
	"set_10_get_1_custom_long":      fastSet10(longName),
	"set_10_get_1_custom_very_long": fastSet10(veryLongName),
	"set_8_get_many":                fastSet8(eightMany),
	"set_8_get_miss":                fastSet8([]string{standardMiss}),
	"Parse":                         fastParse,
	"Serialise":                     fastSerialise,
	"ParseEditSerialise":            fastProxy,
}}

func fastFilled(size int) *fasthttp.RequestHeader {
	h := new(fasthttp.RequestHeader)
	for i := range size {
		h.Add(dummyKey(i), "abcd")
	}
	return h
}

func fastCreate(int) func(int) {
	h := fastFilled(0)
	return func(n int) {
		for range n {
			h.Reset()
		}
	}
}

func fastSet(key string) setup {
	return func(size int) func(int) {
		h := fastFilled(size)
		return func(n int) {
			for range n {
				h.Set(key, customValue)
			}
		}
	}
}

func fastGet(key string) setup {
	return func(size int) func(int) {
		h := fastFilled(size)
		h.Set(key, customValue)
		return func(n int) {
			for range n {
				sink += len(h.Peek(key))
			}
		}
	}
}

func fastSetInteger(size int) func(int) {
	h := fastFilled(size)
	i := 0
	return func(n int) {
		for range n {
			i++
			h.SetContentLength(i)
		}
	}
}

func fastByteSize(size int) func(int) {
	h := fastFilled(size)
	return func(n int) {
		for range n {
			for name, value := range h.All() {
				sink += len(name) + len(value) + 4
			}
		}
	}
}

func fastLengths(h *fasthttp.RequestHeader) int {
	sum := 0
	for name, value := range h.All() {
		sum += len(name) + len(value)
	}
	return sum
}

func fastIterate(size int) func(int) {
	h := fastFilled(size)
	return func(n int) {
		for range n {
			sink += fastLengths(h)
		}
	}
}

func fastRemove(key string) setup {
	return func(size int) func(int) {
		h := fastFilled(size)
		return func(n int) {
			for range n {
				h.Add(key, customValue)
				h.Del(key)
			}
		}
	}
}

func fastPopulate(int) func(int) {
	h := new(fasthttp.ResponseHeader)
	return func(n int) {
		for range n {
			h.Reset()
			for i := range response {
				h.Add(response[i].name, response[i].value)
			}
		}
	}
}

func fastH1toH2(size int) func(int) {
	base := fastFilled(size)
	base.Set("Connection", upgrade)
	base.Set("Upgrade", websocket)
	h := new(fasthttp.RequestHeader)
	return func(n int) {
		for range n {
			base.CopyTo(h)
			h.Set("X-Method", "CONNECT")
			h.Set("X-Protocol", websocket)
			h.Del("Upgrade")
			h.Del("Connection")
			sink += fastLengths(h)
		}
	}
}

func fastH2toH1(size int) func(int) {
	base := fastFilled(size)
	base.Set("X-Status", "200")
	h := new(fasthttp.RequestHeader)
	return func(n int) {
		for range n {
			base.CopyTo(h)
			h.Set("Upgrade", websocket)
			h.Set("Connection", upgrade)
			h.Set("X-Status", "101")
			sink += fastLengths(h)
		}
	}
}

func fastRemovePrefix(size int) func(int) {
	h := fastFilled(80)
	keys := customs(size, "Prefix-Key-%d")
	var found []string
	return func(n int) {
		for range n {
			for _, key := range keys {
				h.Add(key, "abcd")
			}
			// Deleting while iterating is not allowed.
			found = found[:0]
			for name := range h.All() {
				if strings.HasPrefix(string(name), "Prefix-") {
					found = append(found, string(name))
				}
			}
			for _, key := range found {
				h.Del(key)
			}
		}
	}
}

func fastLookup(names []string) setup {
	return func(int) func(int) {
		buf := make([]byte, 0, 64)
		return func(n int) {
			for range n {
				for _, name := range names {
					buf = fasthttp.AppendNormalizedHeaderKey(buf[:0], name)
					sink += len(buf)
				}
			}
		}
	}
}

func fastInsert(size int) func(int) {
	names := customs(size, insertName)
	h := new(fasthttp.RequestHeader)
	return func(n int) {
		for range n {
			h.Reset()
			for _, name := range names {
				h.Set(name, "v")
			}
		}
	}
}

func fastSet10(format string) setup {
	return func(int) func(int) {
		names := customs(10, format)
		h := new(fasthttp.RequestHeader)
		return func(n int) {
			for range n {
				h.Reset()
				for _, name := range names {
					h.Set(name, "v")
				}
				sink += len(h.Peek(names[0]))
			}
		}
	}
}

func fastSet8(get []string) setup {
	return func(int) func(int) {
		h := new(fasthttp.RequestHeader)
		return func(n int) {
			for range n {
				h.Reset()
				for i := range eight {
					h.Set(eight[i].name, eight[i].value)
				}
				for _, name := range get {
					sink += len(h.Peek(name))
				}
			}
		}
	}
}

// fasthttp reads a head with its request line only.
const browserRequest = "GET / HTTP/1.1\r\n" + browser

func fastParse(int) func(int) {
	r := newReader(browserRequest)
	h := new(fasthttp.RequestHeader)
	return func(n int) {
		for range n {
			check(h.Read(r.rewind()))
		}
	}
}

func fastSerialise(int) func(int) {
	h := new(fasthttp.RequestHeader)
	check(h.Read(newReader(browserRequest).rewind()))
	buf := make([]byte, 0, 4096)
	return func(n int) {
		for range n {
			sinkBytes = h.AppendBytes(buf)
		}
	}
}

func fastProxy(int) func(int) {
	r := newReader(browserRequest)
	h := new(fasthttp.RequestHeader)
	buf := make([]byte, 0, 4096)
	return func(n int) {
		for range n {
			check(h.Read(r.rewind()))
			sink += len(h.Peek("Host")) + len(h.Peek("Upgrade")) + len(h.Peek("Content-Length"))
			h.Del("Connection")
			if old := h.Peek("X-Forwarded-For"); len(old) == 0 {
				h.Set("X-Forwarded-For", clientIP)
			} else {
				h.Set("X-Forwarded-For", string(old)+", "+clientIP)
			}
			h.Set("X-Forwarded-Proto", "https")
			h.Set("X-Request-Id", requestID)
			sinkBytes = h.AppendBytes(buf)
		}
	}
}
