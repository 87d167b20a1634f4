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
	"time"

	"github.com/quic-go/quic-go"

	"drship/bench/wan/tun"
)

// bareQUIC is one QUIC connection with one stream and nothing of ours, in two processes: this program again.
type bareQUIC struct {
	line *tun.Line
}

const (
	quicSink   = "quic-sink"
	quicSource = "quic-source"
	quicPort   = 4433
	quicProto  = "drship-bench"
	quicWindow = 64 << 20 // bytes, of stream and connection: no limit on the lines that are measured
)

func (q *bareQUIC) name() string { return "QUIC × 1" }

func (q *bareQUIC) rest(context.Context) error { return nil } // its connection is closed

func (q *bareQUIC) carry(ctx context.Context, warm, span time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, warm+span+grace)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	address := fmt.Sprintf("%v:%d", q.line.AddrB(), quicPort)
	sink, err := startChild(ctx, q.line.B, self, quicSink, address, warm.String(), span.String())
	if err != nil {
		return 0, err
	}
	defer sink.kill()
	if _, err := sink.line(); err != nil {
		return 0, fmt.Errorf("QUIC does not listen: %w: %s", err, sink.text)
	}
	source, err := startChild(ctx, q.line.A, self, quicSource, address)
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

// runSink is the verb quic-sink: it reads one stream for warm, and then for span, and prints the goodput of the span.
func runSink(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("quic-sink ADDRESS WARM SPAN")
	}
	warm, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	span, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	l, err := quic.ListenAddr(args[0], &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{quicProto}}, quicConfig())
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("listening")
	conn, err := l.Accept(ctx)
	if err != nil {
		return err
	}
	stream, err := conn.AcceptUniStream(ctx)
	if err != nil {
		return err
	}
	rate, err := drain(stream, warm, span)
	if err != nil {
		return err
	}
	fmt.Println(rate)
	return nil
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

// runSource is the verb quic-source: it sends until the sink goes.
func runSource(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("quic-source ADDRESS")
	}
	conn, err := quic.DialAddr(ctx, args[0], &tls.Config{InsecureSkipVerify: true, NextProtos: []string{quicProto}}, quicConfig())
	if err != nil {
		return err
	}
	stream, err := conn.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	if _, err := io.ReadFull(rand.Reader, buf); err != nil {
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
