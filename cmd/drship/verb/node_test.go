package verb

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func generate(string) ([]byte, []byte, string, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, "", err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1)}
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

func TestKeygenAndPair(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := Deps{Generate: generate}
	run := func(args ...string) result {
		return execute(t.Context(), d, append([]string{"drship", "--node", "alice", "--state-dir", dir}, args...)...)
	}
	if got := run("pair", "--show"); got.code != 0 || got.out != "" || !strings.Contains(got.err, "drship keygen") {
		t.Errorf("pair --show before keygen: %+v", got)
	}
	made := run("keygen")
	fp := strings.TrimSpace(made.out)
	if made.code != 0 || !strings.HasPrefix(fp, "sha256:") || len(fp) != 71 {
		t.Fatalf("keygen: %+v", made)
	}
	if got := run("keygen"); got.code != 10 || !strings.Contains(got.err, fp) || !strings.Contains(got.err, "--force") {
		t.Errorf("second keygen: %+v", got)
	}
	other := strings.Repeat("AB:", 31) + "AB"
	if got := run("pair", "bob", other); got != (result{}) {
		t.Errorf("pair: %+v", got)
	}
	if got, want := run("pair", "--show"), "alice "+fp+"\nbob sha256:"+strings.Repeat("ab", 32)+"\n"; got.out != want {
		t.Errorf("pair --show: %q, want %q", got.out, want)
	}
	if got := run("pair", "bob", "beef"); got.code != 1 || !strings.Contains(got.err, "not a SHA-256 fingerprint") {
		t.Errorf("bad fingerprint: %+v", got)
	}
	if got := run("pair", "--remove", "bob"); got != (result{}) {
		t.Errorf("pair --remove: %+v", got)
	}
	if got := run("pair", "--remove", "bob"); got.code != 1 {
		t.Errorf("pair --remove again: %+v", got)
	}
	if got := run("keygen", "--force"); got.code != 0 || strings.TrimSpace(got.out) == fp {
		t.Errorf("keygen --force: %+v", got)
	}
}

const goodConfig = `resource r0 {
  on alice { device /dev/drbd0; disk /dev/sdb1; address 10.0.0.1:7788; meta-disk internal; }
  on bob { device /dev/drbd0; disk /dev/sdb1; address 10.0.0.2:7788; meta-disk internal; }
}
resource r1 {
  on alice { device /dev/drbd1; disk /dev/sdc1; address 10.0.0.1:7789; meta-disk internal; }
  on bob { device /dev/drbd1; disk /dev/sdc1; address 10.0.0.2:7789; meta-disk internal; }
}
`

func TestDump(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.conf"), filepath.Join(dir, "bad.conf")
	for path, text := range map[string]string{good: goodConfig, bad: "resource r0 {\n  protcol C;\n}\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) result {
		return execute(t.Context(), Deps{}, append([]string{"drship", "--node", "alice"}, args...)...)
	}
	if got := run("-c", good, "dump"); got.code != 0 || !strings.Contains(got.out, "resource r0 {") || !strings.Contains(got.out, "resource r1 {") {
		t.Errorf("dump: %+v", got)
	}
	if got := run("-c", good, "dump", "r1"); got.code != 0 || strings.Contains(got.out, "resource r0 {") || !strings.Contains(got.out, "resource r1 {") {
		t.Errorf("dump r1: %+v", got)
	}
	if got := run("-c", good, "dump", "--xml", "r0"); got.code != 0 || !strings.Contains(got.out, `<resource name="r0"`) {
		t.Errorf("dump --xml: %+v", got)
	}
	if got := run("-c", good, "dump", "--quiet"); got != (result{}) {
		t.Errorf("dump --quiet: %+v", got)
	}
	if got := run("-c", good, "dump", "r9"); got.code != 1 || !strings.Contains(got.err, "'r9' not defined in your config (for this host).") {
		t.Errorf("dump r9: %+v", got)
	}
	if got := run("-c", bad, "dump"); got.code != 10 || !strings.Contains(got.err, bad+":2:3") || !strings.Contains(got.err, "protocol") {
		t.Errorf("dump of a bad file: %+v", got)
	}
	if got := run("-c", filepath.Join(dir, "none"), "dump"); got.code != 10 || !strings.Contains(got.err, "no such file") {
		t.Errorf("dump of no file: %+v", got)
	}
}
