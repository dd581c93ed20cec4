package header

import (
	"fmt"
	"sync/atomic"
)

// Handle stands for a registered field name and finds its field in a Map in
// constant time. The zero Handle is "not registered".
type Handle uint8

// Policy says what several fields of one name mean (RFC 9110 section 5.3).
type Policy uint8

const (
	// List fields may be joined with ", ".
	List Policy = iota
	// Reject fields come once at most; a second one is ErrDuplicate.
	Reject
	// Crumbs are joined with "; ": Cookie (RFC 9113 section 8.2.3).
	Crumbs
	// Separate fields are never joined: Set-Cookie, and Content-Length, whose
	// duplicates the codec judges by their values.
	Separate
)

// String returns the policy's name in lower case.
func (p Policy) String() string {
	switch p {
	case List:
		return "list"
	case Reject:
		return "reject"
	case Crumbs:
		return "crumbs"
	case Separate:
		return "separate"
	}
	return "unknown"
}

// names has all registered names. Other packages add theirs while the program
// initialises its package-level variables; frozen is set by the first Map, and
// from then on names is only read.
var (
	names  = newNameTable(builtin)
	frozen atomic.Bool
)

// Register returns the handle of a field name, given in the case in which it
// shall be sent. It is meant for package-level variables and not safe for
// concurrent use. Registering a name again, in any case, returns the same handle and changes
// nothing. It panics when a Map was already used, when name is not a token of
// at most 255 bytes, and beyond 127 names.
func Register(name string, p Policy) Handle {
	if h := Lookup(view(name)); h != 0 {
		return h
	}
	if frozen.Load() {
		panic(fmt.Sprintf("header: register %q: a map was already used", name))
	}
	h, err := names.add(name, p)
	if err != nil {
		panic(fmt.Sprintf("header: register %q: %v", name, err))
	}
	return h
}

// Lookup returns the handle of name in any case, or 0 when it is not registered.
func Lookup(name []byte) Handle {
	h, _ := names.lookup(name)
	return h
}

// String returns the name in the case in which it was registered, such as
// "Content-Length"; for a Handle that is not registered it returns "".
func (h Handle) String() string {
	if h >= maxHandles {
		return ""
	}
	return names.text[h]
}

// Policy returns what was registered with the name; List for the zero Handle.
func (h Handle) Policy() Policy { return names.keys[h&(maxHandles-1)].policy }
