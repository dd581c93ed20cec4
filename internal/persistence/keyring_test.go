package persistence

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func secretOf(k *key) string { return base64.StdEncoding.EncodeToString(k.secret[:]) }

func TestKeyringRotation(t *testing.T) {
	rot := Rotation{Every: 1000, Accept: 100, Keep: 500}
	r := NewRing(start)
	if r.Step(rot, start+999) != r || r.Step(rot, start-5000) != r {
		t.Fatal("moved too early")
	}
	var tok Token
	first := r.Mint(nil, &tok, testEndpoint, 0, testBinding, start)
	accepting := r.Step(rot, start+1000)
	if got := accepting.String(); got != "key 0 (mint), key 1 (accept)" {
		t.Fatalf("after drawing: %s", got)
	}
	promoted := accepting.Step(rot, start+1100)
	if got := promoted.String(); got != "key 0 (old), key 1 (mint)" {
		t.Fatalf("after promoting: %s", got)
	}
	second := promoted.Mint(nil, &tok, testEndpoint, 0, testBinding, start)
	dropped := promoted.Step(rot, start+1601)
	if got := dropped.String(); got != "key 1 (mint)" {
		t.Fatalf("after dropping: %s", got)
	}
	for _, tt := range []struct {
		name string
		r    *Ring
		text []byte
		want Verdict
	}{
		{"first key, minting", r, first, Valid}, {"first key, next one accepted", accepting, first, Valid},
		{"first key, old", promoted, first, OldKey}, {"first key, dropped", dropped, first, UnknownKey},
		{"second key, unheard of", r, second, UnknownKey}, {"second key of one that promoted earlier", accepting, second, Valid},
		{"second key, minting", promoted, second, Valid}, {"second key, alone", dropped, second, Valid},
	} {
		if v := tt.r.Open(&tok, tt.text, testBinding, Limits{}, start); v != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, v, tt.want)
		}
	}
	for now := start; now < start+100_000; now += 50 {
		r = r.Step(rot, now)
		if len(r.keys) > 3 || r.mint == nil {
			t.Fatalf("%d: %s", now, r)
		}
	}
}

func TestKeyringFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "persistence.keys")
	if _, err := LoadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	r, err := LoadOrCreate(path, start)
	if err != nil {
		t.Fatal(err)
	}
	r = r.Step(Rotation{Every: 1}, start+10)
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	again, err := LoadOrCreate(path, start+99)
	if err != nil || string(again.Text()) != string(r.Text()) {
		t.Fatalf("read back: %v, %s", err, again)
	}
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(list) != 1 {
		t.Errorf("%d files are left, %v", len(list), err)
	}
	imported, err := ImportRing(r.Export())
	if err != nil || string(imported.Text()) != string(r.Text()) {
		t.Errorf("import: %v", err)
	}
	if _, err := ImportRing([]byte("belay-keys-2\n")); err == nil {
		t.Error("another version was imported")
	}
	if err := os.WriteFile(path, []byte("mint"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreate(path, start); err == nil {
		t.Error("a damaged file was taken or replaced")
	}
	if r, err := LoadOrCreate(filepath.Join(path, "x", "y"), start); err == nil {
		t.Errorf("saved below a file: %v", r)
	}
}

func TestParseRing(t *testing.T) {
	a, b := secretOf(newKey(0, Mint, 0)), secretOf(newKey(0, Mint, 0))
	url := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(a), "=")
	for _, good := range []string{
		"mint 1 " + a, "# text\n\n  accept 2 " + b + "\r\nmint 63 " + a + " 1790000000\n", "mint 0 " + url,
	} {
		if _, err := ParseRing([]byte(good)); err != nil {
			t.Errorf("%v", err)
		}
	}
	for bad, want := range map[string]string{
		"":                               "no key mints",
		"old 1 " + a:                     "no key mints",
		"mint 1 " + a + "\nmint 2 " + b:  "both mint",
		"mint 1 " + a + "\nold 1 " + b:   "two keys have id 1",
		"mint 64 " + a:                   "line 1: the id",
		"mint " + a + " 1":               "line 1: the id",
		a + " mint 1":                    "line 1: the state",
		"mint 1 " + a[:20]:               "key 1: the secret",
		"\nmint 1 " + a + a:              "line 2: key 1: the secret",
		"mint 1 " + a + " " + b:          "key 1: the time",
		"mint 1 " + a + " 1 2":           "want: state id secret",
		"mint 1 !" + a:                   "the secret",
		strings.Repeat("x", 100_000) + a: "keyring",
	} {
		_, err := ParseRing([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		} else if strings.Contains(err.Error(), a[:8]) || strings.Contains(err.Error(), b[:8]) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestKeyringHidesSecrets(t *testing.T) {
	r := NewRing(start)
	bytes := fmt.Sprint(r.mint.secret[:3])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{r, r.mint, r.Keys()} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, secretOf(r.mint)[:6]) || strings.Contains(s, strings.Trim(bytes, "[]")) {
				t.Errorf("%s of %T shows the secret", verb, v)
			}
		}
	}
}

func TestKeyringSwapUnderLoad(t *testing.T) {
	k := NewKeyring(NewRing(start))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var tok Token
			for range 2000 {
				r := k.Load()
				text := r.Mint(nil, &tok, testEndpoint, 0, testBinding, start)
				if v := k.Load().Open(&tok, text, testBinding, Limits{}, start); !v.Usable() {
					t.Errorf("%v", v)
					return
				}
			}
		})
	}
	rot := Rotation{Every: 1, Accept: 1, Keep: 1 << 30}
	for i := range uint32(20) {
		k.Swap(k.Load().Step(rot, start+10*i))
	}
	wg.Wait()
}
