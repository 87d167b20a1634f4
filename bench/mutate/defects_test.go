package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestDefectsFit: what the list wants to change is there, once. Who moves code moves its defects along.
func TestDefectsFit(t *testing.T) {
	if len(defects) < 25 {
		t.Errorf("%d defects", len(defects))
	}
	for _, d := range defects {
		text, err := os.ReadFile(filepath.Join("../..", d.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte(d.old)); n != 1 {
			t.Errorf("%s: %s has %d places like %q, want one", d.name, d.file, n, d.old)
		}
	}
}
