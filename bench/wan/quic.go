package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"drship/bench/wan/tun"
)

// bareQUIC is QUIC connections with one stream each and nothing of ours, in two processes: this program again. Usually it is one.
type bareQUIC struct {
	line  *tun.Line
	count int
}

// maxQUIC bounds the connections.
const maxQUIC = 64

const (
	quicSink   = "quic-sink"
	quicSource = "quic-source"
	quicPort   = 4433
	quicProto  = "drship-bench"
	quicWindow = 64 << 20 // bytes, of stream and connection: no limit on the lines that are measured
)

func (q *bareQUIC) name() string { return fmt.Sprintf("QUIC × %d", q.count) }

func (q *bareQUIC) rest(context.Context) error { return nil } // its connection is closed

func (q *bareQUIC) carry(ctx context.Context, warm, span time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, warm+span+grace)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	address := fmt.Sprintf("%v:%d", q.line.AddrB(), quicPort)
	sink, err := startChild(ctx, q.line.B, self, quicSink, address, strconv.Itoa(q.count), warm.String(), span.String())
	if err != nil {
		return 0, err
	}
	defer sink.kill()
	if _, err := sink.line(); err != nil {
		return 0, fmt.Errorf("QUIC does not listen: %w: %s", err, sink.text)
	}
	source, err := startChild(ctx, q.line.A, self, quicSource, address, strconv.Itoa(q.count))
	if err != nil {
		return 0, err
	}
	defer source.kill() // it sends until nobody listens
	text, err := sink.end()
	if err != nil {
		return 0, err
	}
	var rate float64
	if err := json.Unmarshal(text, &rate); err != nil {
		return 0, fmt.Errorf("read what the sink of QUIC says: %w", err)
	}
	return rate, nil
}

func quicConfig() *quic.Config {
	return &quic.Config{
		InitialStreamReceiveWindow: quicWindow, MaxStreamReceiveWindow: quicWindow,
		InitialConnectionReceiveWindow: quicWindow, MaxConnectionReceiveWindow: quicWindow,
	}
}

// runSink is the verb quic-sink: it reads from so many connections for warm, and then for span, and prints the goodput of the span.
func runSink(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("quic-sink ADDRESS COUNT WARM SPAN")
	}
	count, cerr := strconv.Atoi(args[1])
	warm, werr := time.ParseDuration(args[2])
	span, serr := time.ParseDuration(args[3])
	cert, err := selfSigned()
	if err := errors.Join(cerr, werr, serr, err); err != nil {
		return err
	}
	l, err := quic.ListenAddr(args[0], &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{quicProto}}, quicConfig())
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("listening")
	rates, errs := make([]float64, count), make([]error, count)
	var wg sync.WaitGroup
	for i := range count {
		conn, err := l.Accept(ctx)
		if err != nil {
			return err
		}
		wg.Go(func() {
			stream, err := conn.AcceptUniStream(ctx)
			if err == nil {
				rates[i], err = drain(stream, warm, span)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	var sum float64
	for _, r := range rates {
		sum += r
	}
	fmt.Println(sum)
	return errors.Join(errs...)
}

// drain reads for warm, and then for span, and returns the bits a second of the span.
func drain(stream *quic.ReceiveStream, warm, span time.Duration) (float64, error) {
	begin := time.Now()
	if err := stream.SetReadDeadline(begin.Add(warm + span)); err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<20)
	counted := 0
	for {
		n, err := stream.Read(buf)
		if time.Since(begin) >= warm {
			counted += n
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return float64(counted) * 8 / span.Seconds(), nil
		}
		if err != nil {
			return 0, fmt.Errorf("read from QUIC: %w", err)
		}
	}
}

// runSource is the verb quic-source: it sends on so many connections, each with a socket of its own, until the sink goes.
func runSource(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("quic-source ADDRESS COUNT")
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	if _, err := io.ReadFull(rand.Reader, buf); err != nil {
		return err
	}
	errs := make([]error, count)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() { errs[i] = pour(ctx, args[0], buf) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pour sends the same bytes again and again on one connection.
func pour(ctx context.Context, address string, buf []byte) error {
	conn, err := quic.DialAddr(ctx, address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{quicProto}}, quicConfig())
	if err != nil {
		return err
	}
	stream, err := conn.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	for {
		if _, err := stream.Write(buf); err != nil {
			return nil // the sink has seen enough
		}
	}
}

// selfSigned is a certificate that lasts as long as a measurement.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
