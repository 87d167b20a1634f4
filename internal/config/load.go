package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Load reads the configuration at path with all that it includes, merges and checks it. An error is an ErrorList
// (each an *Error with file, line and column) where the text is at fault; else it wraps the error of the file system.
func Load(path string) (*Config, error) { return LoadTest(path, "", "") }

// LoadAsWritten is LoadTest for printing what is written, with words that no option knows as values.
func LoadAsWritten(path, test, exclude string) (*Config, error) {
	return load(path, test, exclude, true)
}

// LoadTest is Load with the file test read as if it were included at the end of path, and the file exclude left out
// wherever it is included. Both may be "".
func LoadTest(path, test, exclude string) (*Config, error) { return load(path, test, exclude, false) }

func load(path, test, exclude string, anyWord bool) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	addrs, err := interfaceAddresses()
	if err != nil {
		return nil, err
	}
	return Parse(path, text, ParseOptions{Open: readFile, Glob: filepath.Glob, Addresses: addrs, Test: test, Exclude: exclude, AnyWord: anyWord})
}

// readFile reads a file up to the bound that the parser refuses; a device that never ends costs no more than that.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", path)
	}
	return io.ReadAll(io.LimitReader(f, maxFileSize+1))
}
