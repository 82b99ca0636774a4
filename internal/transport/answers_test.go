package transport

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
)

// pieces is a connection whose reads return given pieces, one after another.
type pieces struct {
	net.Conn
	next []string
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.next) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.next[0])
	if p.next[0] = p.next[0][n:]; p.next[0] == "" {
		p.next = p.next[1:]
	}
	return n, nil
}

// cuts cuts s into pieces at random places.
func cuts(r *rand.Rand, s string) (all []string) {
	for s != "" {
		n := 1 + r.IntN(len(s))
		all = append(all, s[:n])
		s = s[n:]
	}
	return all
}

// TestOnlyBytesOfAnAnswerAreHandedOver checks which of the bytes that a server sends after a request a connection hands over,
// in whatever pieces they come.
func TestOnlyBytesOfAnAnswerAreHandedOver(t *testing.T) {
	const get = "GET / HTTP/1.1\r\n\r\n"
	for _, c := range []struct {
		name, request, answer, more string
		all                         bool // more is handed over too, since nobody here knows that it is more
	}{
		{name: "length", answer: "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "case and spaces", answer: "HTTP/1.1 206 P\r\ncontent-lengtH: \t3 \r\n\r\nabc", more: "more"},
		{name: "bare line feeds", answer: "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", more: "more"},
		{name: "no reason", answer: "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "long line", answer: "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 200) + "\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "empty body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", more: "more"},
		{name: "another answer", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", more: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "HEAD", request: "HEAD / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", more: "abc"},
		{name: "not modified", answer: "HTTP/1.1 304 N\r\nContent-Length: 3\r\n\r\n", more: "abc"},
		{name: "no content", answer: "HTTP/1.1 204 N\r\n\r\n", more: "abc"},
		{name: "early hints", answer: "HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "until the end", answer: "HTTP/1.1 200 OK\r\n\r\nabc", more: "more", all: true},
		{name: "chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n", more: "more", all: true},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 3\r\n\r\nabc", more: "more", all: true},
		{name: "list of lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1, 3\r\n\r\nabc", more: "more", all: true},
		{name: "signed length", answer: "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nabc", more: "more", all: true},
		{name: "huge length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", more: "more", all: true},
		{name: "length after many spaces", answer: "HTTP/1.1 200 OK\r\nContent-Length: " + strings.Repeat(" ", 46) + "123\r\n\r\nabc", more: "more", all: true},
		{name: "continued line", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 3\r\n\r\nabc", more: "more", all: true},
		{name: "other protocol", answer: "ICY 200 OK\r\nContent-Length: 1\r\n\r\nabc", more: "more", all: true},
		{name: "switching protocols", answer: "HTTP/1.1 101 S\r\nContent-Length: 1\r\n\r\nabc", more: "more", all: true},
		{name: "tunnel", request: "CONNECT host:443 HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", more: "\x16more", all: true},
		{name: "TLS", request: "\x16\x03\x01", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", more: "more", all: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			request := c.request
			if request == "" {
				request = get
			}
			for i := range 200 {
				from := &pieces{next: cuts(random, c.answer+c.more)}
				if i == 0 {
					from.next = []string{c.answer + c.more}
				}
				conn, err := answersOf(func(context.Context, string, string) (net.Conn, error) { return from, nil })(t.Context(), "tcp", "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				pieces := strings.Join(from.next, "|")
				got, err := io.ReadAll(conn)
				if want := c.answer + map[bool]string{true: c.more}[c.all]; err != nil || string(got) != want {
					t.Fatalf("handed over %q of %q, %v", got, pieces, err)
				}
				if c.all {
					continue
				}
				// Nothing more is handed over after another request.
				if _, err := io.WriteString(conn, get); err != nil {
					t.Fatal(err)
				}
				if n, err := conn.Read(make([]byte, 10)); n != 0 || err != io.EOF {
					t.Fatalf("then %d bytes, %v", n, err)
				}
			}
		})
	}
}

// TestAConnectionHandsOverOneAnswerAfterAnother checks that what comes after a second request is handed over, unless it cannot be
// an answer, and that nothing is when no request was sent.
func TestAConnectionHandsOverOneAnswerAfterAnother(t *testing.T) {
	const get, chunked = "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	const plain = "HTTP/1.1 206 P\r\nContent-Length: 5000\r\n\r\n"
	body := strings.Repeat("b", 5000)
	from := &pieces{}
	conn := &answersConn{Conn: from}
	buf := make([]byte, 4096)
	for _, answer := range []string{plain + body, chunked, plain + body, chunked, chunked, plain + body} {
		if _, err := io.WriteString(conn, get); err != nil {
			t.Fatal(err)
		}
		from.next = []string{answer[:10], answer[10:]}
		var got bytes.Buffer
		for len(from.next) > 0 {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got.Write(buf[:n])
		}
		if got.String() != answer {
			t.Fatalf("handed over %q of %q", &got, answer)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() {
		if _, err := io.WriteString(conn, get); err != nil {
			t.Fatal(err)
		}
		for from.next = append(from.next[:0], plain, body); len(from.next) > 0; {
			if _, err := conn.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	}); allocs > 2 { // the slice of the pieces, and the request as bytes
		t.Errorf("%v allocations for an answer", allocs)
	}
	for request, more := range map[string]string{"": plain + body, get: body} {
		from := &pieces{next: []string{plain + body}}
		conn := &answersConn{Conn: from}
		if _, err := io.WriteString(conn, get); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, len(plain+body))); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		from.next = []string{more}
		if n, err := conn.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("after the request %q: %d bytes, %v", request, n, err)
		}
	}
}
