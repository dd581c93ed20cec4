package header

import (
	"fmt"
	"strings"
	"testing"
)

func TestLookupFindsEveryName(t *testing.T) {
	for h := Handle(1); int(h) < len(builtin); h++ {
		name := builtin[h].name
		mixed := []byte(name)
		for i := range mixed {
			if i%2 == 0 {
				mixed[i] = strings.ToUpper(name)[i]
			}
		}
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name), string(mixed)} {
			if got := Lookup([]byte(n)); got != h {
				t.Errorf("%q is %d, not %d", n, got, h)
			}
		}
		if h.String() != name || h.Policy() != builtin[h].policy {
			t.Errorf("%d is %q (%v)", h, h, h.Policy())
		}
		if names.keys[h].next != 0 {
			t.Errorf("%q shares a slot", name)
		}
		// One byte off, anywhere, is another name.
		for i := range len(name) {
			for _, flip := range []byte{0x01, 0x10, 0x20, 0x40, 0x80} {
				near := []byte(name)
				near[i] ^= flip
				if strings.EqualFold(string(near), name) && near[i] < 0x80 {
					continue
				}
				if got := Lookup(near); got == h {
					t.Errorf("%q is taken for %q", near, name)
				}
			}
		}
		for _, near := range []string{name[1:], name[:len(name)-1], name + "s", "x" + name} {
			if Lookup([]byte(near)) == h {
				t.Errorf("%q is taken for %q", near, name)
			}
		}
	}
	if Handle(0).String() != "" || Handle(200).String() != "" || Lookup(nil) != 0 || Handle(0).Policy() != List {
		t.Error("the zero handle has a name")
	}
}

func TestRegister(t *testing.T) {
	if h := Register("cOOKIE", List); h != Cookie || h.Policy() != Crumbs {
		t.Errorf("a second registration gave %v %v", h, h.Policy())
	}
	new(Map).Reset(nil)
	defer func() {
		if r := fmt.Sprint(recover()); !strings.Contains(r, "already used") {
			t.Errorf("panic is %q", r)
		}
	}()
	Register("x-too-late", List)
}

func TestNameTableAdd(t *testing.T) {
	table := newNameTable(builtin)
	var want []string
	for i := 0; ; i++ {
		// Equal length and ends: no hash can tell them apart.
		name := fmt.Sprintf("x-belay-same-ends-%02d-in-all-of-these", i)
		if i%2 == 0 {
			name = fmt.Sprintf("x%d", i)
		}
		h, err := table.add(name, Reject)
		if err != nil {
			break
		}
		if h != Handle(len(builtin)+len(want)) || table.keys[h].policy != Reject {
			t.Fatalf("%q is %d", name, h)
		}
		want = append(want, name)
	}
	if table.count != maxHandles {
		t.Errorf("full at %d names", table.count)
	}
	for i, name := range want {
		h, _ := table.lookup([]byte(strings.ToUpper(name)))
		if int(h) != len(builtin)+i {
			t.Errorf("%q is %d", name, h)
		}
	}
	for h := 1; h < len(builtin); h++ {
		if got, _ := table.lookup([]byte(builtin[h].name)); int(got) != h {
			t.Errorf("%q is %d", builtin[h].name, got)
		}
	}
	if h, _ := table.lookup([]byte("x-belay-same-ends-xx-in-all-of-these")); h != 0 {
		t.Errorf("a name nobody registered is %d", h)
	}
	table = newNameTable(builtin)
	for _, bad := range []string{"", "a b", "a:", strings.Repeat("x", 256)} {
		if _, err := table.add(bad, List); err != ErrInvalidName {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPolicyString(t *testing.T) {
	got := fmt.Sprint(List, Reject, Crumbs, Separate, Policy(9))
	if got != "list reject crumbs separate unknown" {
		t.Error(got)
	}
}

func FuzzEqualFold(f *testing.F) {
	f.Add("Content-Length", "content-length")
	f.Add("a@b`c[d{", "A`B@C{D[")
	f.Add("\xe9", "\xc9")
	f.Fuzz(func(t *testing.T, a, b string) {
		check := func(a, b string) {
			want := strings.EqualFold(strings.Map(ascii, a), strings.Map(ascii, b)) && len(a) == len(b)
			if isASCII(a+b) && equalFold(view(a), view(b)) != want {
				t.Errorf("%q and %q: %v", a, b, !want)
			}
			if a != b && !isASCII(a+b) && !strings.EqualFold(a, b) && equalFold(view(a), view(b)) {
				t.Errorf("%q and %q are equal", a, b)
			}
		}
		check(a, b)
		check(a, strings.ToUpper(a))
		check(a+b, strings.ToLower(a)+b)
		for i := range len(a) {
			other := []byte(a)
			other[i] ^= 0x20
			check(a, string(other))
			if ha, hb := fullHash(a), fullHash(string(other)); ha != hb {
				t.Errorf("case changes the hash of %q", a)
			}
		}
	})
}

func fullHash(s string) uint32 {
	a, z := ends(view(s))
	return hashAll(hashEnds(a, z, len(s)), view(s))
}

func ascii(r rune) rune { return r }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
