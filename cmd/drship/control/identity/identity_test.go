package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func generate(string) ([]byte, []byte, string, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, "", err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, key)
	if err != nil {
		return nil, nil, "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, "", err
	}
	sum := sha256.Sum256(der)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		"sha256:" + hex.EncodeToString(sum[:]), nil
}

func TestCreateAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := Load(dir); !errors.Is(err, ErrNone) {
		t.Fatalf("Load before Create: %v", err)
	}
	first, err := Create(dir, "alice", generate, false)
	if err != nil {
		t.Fatal(err)
	}
	own, err := Load(dir)
	if err != nil || own.Fingerprint != first {
		t.Fatalf("Load = %q, %v; want %q", own.Fingerprint, err, first)
	}
	if info, err := os.Stat(filepath.Join(dir, dirName, keyName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	if _, err := Create(dir, "alice", generate, false); !errors.Is(err, ErrExists) {
		t.Errorf("second Create: %v", err)
	}
	second, err := Create(dir, "alice", generate, true)
	if err != nil || second == first {
		t.Errorf("forced Create = %q, %v", second, err)
	}
	if err := os.WriteFile(filepath.Join(dir, dirName, keyName), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Load of a broken key: %v", err)
	}
	if _, err := Create(dir, "alice", generate, false); err == nil {
		t.Error("Create silently replaced a broken identity")
	}
	left, err := filepath.Glob(filepath.Join(dir, dirName, ".*-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestParseFingerprint(t *testing.T) {
	digits := strings.Repeat("0a", 32)
	want := "sha256:" + digits
	for _, s := range []string{digits, want, " " + want + "\n", strings.ToUpper(want), strings.TrimSuffix(strings.Repeat("0A:", 32), ":")} {
		if got, err := ParseFingerprint(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sha256:", digits[1:], digits + "00", "sha1:" + digits, strings.Repeat("zz", 32)} {
		if got, err := ParseFingerprint(s); err == nil {
			t.Errorf("%q was taken as %q", s, got)
		}
	}
}

func TestPins(t *testing.T) {
	dir := t.TempDir()
	a, b := "sha256:"+strings.Repeat("aa", 32), "sha256:"+strings.Repeat("bb", 32)
	step := func(err error, want map[string][]string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Pins(dir)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("Pins = %v, %v; want %v", got, err, want)
		}
	}
	step(nil, map[string][]string{})
	step(Pin(dir, "bob", a, false), map[string][]string{"bob": {a}})
	step(Pin(dir, "bob", b, true), map[string][]string{"bob": {a, b}})
	step(Pin(dir, "bob", b, true), map[string][]string{"bob": {a, b}})
	step(Pin(dir, "carol", a, false), map[string][]string{"bob": {a, b}, "carol": {a}})
	step(Pin(dir, "bob", b, false), map[string][]string{"bob": {b}, "carol": {a}})
	step(Unpin(dir, "bob"), map[string][]string{"carol": {a}})
	if Unpin(dir, "bob") == nil || Pin(dir, "bob", "beef", false) == nil || Pin(dir, "b b", a, false) == nil || Pin(dir, "", a, false) == nil {
		t.Error("nonsense was taken")
	}
	path := filepath.Join(dir, dirName, pinsName)
	for text, ok := range map[string]bool{"# comment\n\nbob " + a + " # his laptop\n": true, "bob\n": false, "bob x\n": false, "bob " + a + " " + b + "\n": false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Pins(dir); (err == nil) != ok {
			t.Errorf("pins %q: %v", text, err)
		}
	}
}

func TestPinsAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := Pin(dir, string(rune('a'+i)), strings.Repeat("ab", 32), false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if pins, err := Pins(dir); err != nil || len(pins) != 20 {
		t.Errorf("%d of 20 pins kept, %v", len(pins), err)
	}
}
