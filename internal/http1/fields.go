package http1

import "belay/internal/header"

// stages of fields, in the order of the wire.
const (
	atLine  = iota // the next byte begins a line
	inName         // of the field's name
	inBlank        // between colon and value
	inValue
)

// fields takes a field section apart, one line at a time. All positions are
// offsets into the buffer, in which only bytes from pos on are looked at.
type fields struct {
	pos     int // next byte to look at
	line    int // where the current line begins
	colon   int
	value   int // where the value begins
	end     int // and where it ends, without blanks
	limit   int // the section may not reach this offset
	maxName int
	left    int // fields that may still come
	rule    Underscores
	trailer bool // drop what must not be in a trailer
	stage   uint8
	class   uint8 // bits of nameClass seen in the name
}

const noLimit = 1 << 31

// begin readies f for a section that begins at pos.
func (f *fields) begin(pos int, l header.Limits) {
	f.pos, f.stage = pos, atLine
	f.limit, f.maxName, f.left = noLimit, noLimit, noLimit
	if l.Bytes > 0 {
		f.limit = pos + l.Bytes + 2 // and the empty line
	}
	if l.Name > 0 {
		f.maxName = l.Name
	}
	if l.Fields > 0 {
		f.left = l.Fields
	}
}

// fieldEnd is returned with the empty line behind the last field; pos is then behind it.
const fieldEnd header.Handle = 0xff

// next reads on to the end of the next line and adds its field to m, whose
// base is buf. It returns the handle, with the value in value and end, or
// fieldEnd. Fields that are dropped have handle 0.
func (f *fields) next(buf []byte, m *header.Map) (header.Handle, error) {
	b := buf
	if len(b) > f.limit {
		b = b[:f.limit]
	}
	if f.stage == atLine && f.whole(b) {
		return f.add(b, m)
	}
	if f.stage <= inName {
		if h, err := f.name(b); err != nil || h == fieldEnd {
			return h, err
		}
	}
	i := f.pos
	if f.stage == inBlank {
		for i < len(b) && isBlank(b[i]) {
			i++
		}
		if i == len(b) {
			return 0, f.more(b, i)
		}
		f.value, f.stage = i, inValue
	}
	i = skipText(b, i)
	for i < len(b) && isText(b[i]) {
		i = skipText(b, i+1)
	}
	if i+1 >= len(b) || b[i] != '\r' || b[i+1] != '\n' {
		return 0, f.noEnd(b, i)
	}
	f.pos, f.stage = i+2, atLine
	for i > f.value && isBlank(b[i-1]) {
		i--
	}
	f.end = i
	return f.add(b, m)
}

// name reads up to the colon.
func (f *fields) name(b []byte) (header.Handle, error) {
	i := f.pos
	if f.stage == atLine {
		if i >= len(b) {
			return 0, f.more(b, i)
		}
		if nameClass[b[i]] == 0 {
			return f.noName(b, i)
		}
		f.line, f.class, f.stage = i, 0, inName
	}
	class := f.class
	for ; i < len(b); i++ {
		c := nameClass[b[i]]
		if c == 0 {
			break
		}
		class |= c
	}
	f.class = class
	if i-f.line > f.maxName {
		return 0, errNameLong
	}
	if i == len(b) {
		return 0, f.more(b, i)
	}
	if b[i] != ':' {
		return 0, badName(b[i])
	}
	f.colon, f.pos, f.stage = i, i+1, inBlank
	return 0, nil
}

// whole takes a line that is all there and as most are: a name of letters, a
// colon, one blank, a value without blanks around it. If the line is not such
// it returns false and leaves the line to next.
func (f *fields) whole(b []byte) bool {
	line := f.pos
	i := skipLetters(b, line)
	if i == line || i-line > f.maxName || i+2 >= len(b) || b[i] != ':' || b[i+1] != ' ' || b[i+2] <= ' ' {
		return false
	}
	end := skipText(b, i+2)
	if end+1 >= len(b) || b[end] != '\r' || b[end+1] != '\n' || isBlank(b[end-1]) {
		return false
	}
	f.line, f.colon, f.value, f.end, f.pos, f.class = line, i, i+2, end, end+2, classToken
	return true
}

// add puts the field whose line is complete into m.
func (f *fields) add(b []byte, m *header.Map) (header.Handle, error) {
	if f.left--; f.left < 0 {
		return 0, errManyFields
	}
	if f.class&classUnderscore != 0 && f.rule != UnderscoreAllow {
		if f.rule == UnderscoreReject {
			return 0, errUnderscore
		}
		return 0, nil
	}
	if f.trailer && forbidden[header.Lookup(b[f.line:f.colon])] {
		return 0, nil
	}
	h, err := m.AddField(f.line, f.colon-f.line, f.value, f.end-f.value)
	if err != nil {
		return 0, mapError(err)
	}
	return h, nil
}

// more keeps the position until there are more bytes, unless there cannot be.
func (f *fields) more(b []byte, i int) error {
	f.pos = i
	if len(b) >= f.limit {
		return errHeadLarge
	}
	return ErrNeedMore
}

// noName handles a line that does not begin with a name.
func (f *fields) noName(b []byte, i int) (header.Handle, error) {
	switch b[i] {
	case '\r':
		if i+1 == len(b) {
			return 0, f.more(b, i)
		}
		if b[i+1] != '\n' {
			return 0, errBareCR
		}
		f.pos = i + 2
		return fieldEnd, nil
	case ' ', '\t':
		return 0, errFold
	case ':':
		return 0, errEmptyName
	}
	return 0, badName(b[i])
}

// badName says what is wrong with a name that ends with c instead of a colon.
func badName(c byte) error {
	switch c {
	case '\n':
		return errBareLF
	case '\r':
		return errNoColon
	case ' ', '\t':
		return errSpaceName
	}
	return errFieldName
}

// noEnd handles a value that is not followed by CRLF.
func (f *fields) noEnd(b []byte, i int) error {
	if i < len(b) {
		switch {
		case b[i] == '\n':
			return errBareLF
		case b[i] != '\r':
			return errFieldValue
		case i+1 < len(b):
			return errBareCR
		}
	}
	return f.more(b, i)
}

// mapError translates what header.Map says about a field.
func mapError(err error) error {
	switch err {
	case header.ErrTooManyFields:
		return errManyFields
	case header.ErrNameTooLong:
		return errNameLong
	case header.ErrDuplicate:
		return errDuplicate
	}
	return errHeadLarge
}
