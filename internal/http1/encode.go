package http1

import "strconv"

// AppendRequestLine appends "METHOD target HTTP/1.1" and CRLF. Method and
// target must come from a parsed request or from checked configuration.
func AppendRequestLine(dst, method, target []byte) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	dst = append(dst, target...)
	return append(dst, " HTTP/1.1\r\n"...)
}

// AppendStatusLine appends "HTTP/1.minor status reason" and CRLF, with the
// reason of StatusText, never the one received. status has three digits.
func AppendStatusLine(dst []byte, minor, status int) []byte {
	if minor == 1 && status >= 100 && status < 600 {
		if line := statusLines[status-100]; line != "" {
			return append(dst, line...)
		}
	}
	return appendStatusLine(dst, minor, status)
}

func appendStatusLine(dst []byte, minor, status int) []byte {
	dst = append(dst, "HTTP/1."...)
	dst = append(dst, byte('0'+minor), ' ')
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, StatusText(status)...)
	return append(dst, "\r\n"...)
}

// AppendChunkHeader appends the first line of a chunk of n bytes: n in lower-case
// hexadecimal, and CRLF.
func AppendChunkHeader(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, '\r', '\n')
}

// StatusText returns the reason phrase of a status code in the IANA registry
// (RFC 9110 section 16.2.1), "" of others.
func StatusText(code int) string {
	if code < 100 || code >= 600 {
		return ""
	}
	return statusTexts[code-100]
}

// statusLines has the status lines of HTTP/1.1, by status less 100.
var statusLines = makeStatusLines()

func makeStatusLines() (t [500]string) {
	for i, text := range statusTexts {
		if text != "" {
			t[i] = string(appendStatusLine(nil, 1, 100+i))
		}
	}
	return t
}

// statusTexts has reason phrases by status less 100.
var statusTexts = [500]string{
	0: "Continue", 1: "Switching Protocols", 2: "Processing", 3: "Early Hints",

	100: "OK", 101: "Created", 102: "Accepted", 103: "Non-Authoritative Information", 104: "No Content",
	105: "Reset Content", 106: "Partial Content", 107: "Multi-Status", 108: "Already Reported", 126: "IM Used",

	200: "Multiple Choices", 201: "Moved Permanently", 202: "Found", 203: "See Other", 204: "Not Modified",
	205: "Use Proxy", 207: "Temporary Redirect", 208: "Permanent Redirect",

	300: "Bad Request", 301: "Unauthorized", 302: "Payment Required", 303: "Forbidden", 304: "Not Found",
	305: "Method Not Allowed", 306: "Not Acceptable", 307: "Proxy Authentication Required", 308: "Request Timeout",
	309: "Conflict", 310: "Gone", 311: "Length Required", 312: "Precondition Failed", 313: "Content Too Large",
	314: "URI Too Long", 315: "Unsupported Media Type", 316: "Range Not Satisfiable", 317: "Expectation Failed",
	321: "Misdirected Request", 322: "Unprocessable Content", 323: "Locked", 324: "Failed Dependency", 325: "Too Early",
	326: "Upgrade Required", 328: "Precondition Required", 329: "Too Many Requests",
	331: "Request Header Fields Too Large", 351: "Unavailable For Legal Reasons",

	400: "Internal Server Error", 401: "Not Implemented", 402: "Bad Gateway", 403: "Service Unavailable",
	404: "Gateway Timeout", 405: "HTTP Version Not Supported", 406: "Variant Also Negotiates", 407: "Insufficient Storage",
	408: "Loop Detected", 410: "Not Extended", 411: "Network Authentication Required",
}
