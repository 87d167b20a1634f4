// Package identity keeps a node's own certificate and the fingerprints of the peers that it trusts, in the state directory:
//
//	<state-dir>/.identity/certificate.pem   what peers pin
//	<state-dir>/.identity/key.pem           mode 0600
//	<state-dir>/.identity/pins              one "NAME sha256:<64 hex digits>" a line, # starts a comment
//
// Files are replaced whole and synced, so that a crash leaves the old one or the new one.
package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	dirName  = ".identity"
	certName = "certificate.pem"
	keyName  = "key.pem"
	pinsName = "pins"

	// maxFile bounds what is read of any of the files, in bytes.
	maxFile = 1 << 20
)

var (
	// ErrNone is returned where the node has no identity yet.
	ErrNone = errors.New("node has no identity")
	// ErrExists is returned where a new identity would replace one without being told to.
	ErrExists = errors.New("node has an identity already")
)

// Generate makes a key pair and a certificate for the node name.
type Generate func(name string) (certPEM, keyPEM []byte, fingerprint string, err error)

// Create makes the identity of a node and returns its fingerprint. An identity that is there is replaced only with force:
// peers that pinned it stop trusting this node then.
func Create(stateDir, node string, generate Generate, force bool) (fingerprint string, err error) {
	dir := filepath.Join(stateDir, dirName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make identity directory: %w", err)
	}
	if _, err := Load(stateDir); err == nil && !force {
		return "", ErrExists
	} else if err != nil && !errors.Is(err, ErrNone) && !force {
		return "", err
	}
	cert, key, fingerprint, err := generate(node)
	if err != nil {
		return "", fmt.Errorf("generate identity: %w", err)
	}
	// The certificate goes last: while it is missing there is no identity.
	if err := os.Remove(filepath.Join(dir, certName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("remove old certificate: %w", err)
	}
	if err := replace(filepath.Join(dir, keyName), key, 0o600); err != nil {
		return "", err
	}
	if err := replace(filepath.Join(dir, certName), cert, 0o644); err != nil {
		return "", err
	}
	return fingerprint, nil
}

// Load returns the node's certificate and its fingerprint, or ErrNone.
func Load(stateDir string) (Own, error) {
	dir := filepath.Join(stateDir, dirName)
	cert, err := read(filepath.Join(dir, certName))
	if errors.Is(err, fs.ErrNotExist) {
		return Own{}, ErrNone
	}
	if err != nil {
		return Own{}, fmt.Errorf("read certificate: %w", err)
	}
	key, err := read(filepath.Join(dir, keyName))
	if err != nil {
		return Own{}, fmt.Errorf("read key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return Own{}, fmt.Errorf("load identity in %s: %w", dir, err)
	}
	sum := sha256.Sum256(pair.Certificate[0])
	return Own{Certificate: pair, Fingerprint: prefix + hex.EncodeToString(sum[:])}, nil
}

// Own is the identity of this node.
type Own struct {
	Certificate tls.Certificate
	Fingerprint string // "sha256:<64 hex digits>"
}

const prefix = "sha256:"

// ParseFingerprint accepts a SHA-256 fingerprint as people paste it (with or without the prefix, colons, upper case) and returns
// the one form that is kept and compared.
func ParseFingerprint(s string) (string, error) {
	digits := strings.ToLower(strings.TrimSpace(s))
	digits = strings.ReplaceAll(strings.TrimPrefix(digits, prefix), ":", "")
	if b, err := hex.DecodeString(digits); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not a SHA-256 fingerprint: 64 hexadecimal digits, as drship pair --show prints them", s)
	}
	return prefix + digits, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

func replace(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	fail := func(err error) error {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	if _, err := f.Write(data); err != nil {
		return fail(err)
	}
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
