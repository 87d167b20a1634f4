package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Pins returns the fingerprints that each peer may show, by peer name; none where nothing was paired.
func Pins(stateDir string) (map[string][]string, error) {
	path := filepath.Join(stateDir, dirName, pinsName)
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string][]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	pins := map[string][]string{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("%s:%d: want a peer's name and its fingerprint", path, n)
		}
		fp, err := ParseFingerprint(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if !slices.Contains(pins[fields[0]], fp) {
			pins[fields[0]] = append(pins[fields[0]], fp)
		}
	}
	return pins, nil
}

// Pin makes fingerprint the one that peer must show; with keep, one that it may show beside those it has, so that a peer
// can change its key without an interruption.
func Pin(stateDir, peer, fingerprint string, keep bool) error {
	fp, err := ParseFingerprint(fingerprint)
	if err != nil {
		return err
	}
	if peer == "" || strings.ContainsAny(peer, " \t\r\n#") {
		return fmt.Errorf("%q cannot be the name of a peer", peer)
	}
	return change(stateDir, func(pins map[string][]string) error {
		if !keep {
			pins[peer] = nil
		}
		if !slices.Contains(pins[peer], fp) {
			pins[peer] = append(pins[peer], fp)
		}
		return nil
	})
}

// Unpin forgets a peer's fingerprints.
func Unpin(stateDir, peer string) error {
	return change(stateDir, func(pins map[string][]string) error {
		if _, ok := pins[peer]; !ok {
			return fmt.Errorf("no fingerprint of %q is stored", peer)
		}
		delete(pins, peer)
		return nil
	})
}

// change rewrites the pins under a lock, so that two verbs at once lose nothing.
func change(stateDir string, edit func(map[string][]string) error) (err error) {
	dir := filepath.Join(stateDir, dirName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make identity directory: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open identity directory: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }() // gives the lock back
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock identity directory: %w", err)
	}
	pins, err := Pins(stateDir)
	if err != nil {
		return err
	}
	if err := edit(pins); err != nil {
		return err
	}
	var b strings.Builder
	for _, peer := range slices.Sorted(maps.Keys(pins)) {
		for _, fp := range pins[peer] {
			fmt.Fprintf(&b, "%s %s\n", peer, fp)
		}
	}
	return replace(filepath.Join(dir, pinsName), []byte(b.String()), 0o600)
}
