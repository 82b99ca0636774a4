package transport

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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
	const get, chunked = "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
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
		{name: "chunks", answer: chunked + "3\r\nabc\r\n0\r\n\r\n", more: "more"},
		{name: "chunks and another answer", answer: chunked + "3\r\nabc\r\n0\r\n\r\n", more: chunked + "3\r\nabc\r\n0\r\n\r\n"},
		{name: "chunks beside a length", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\nContent-Length: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n", more: "more"},
		{name: "many chunks", answer: chunked + "1\r\na\r\n00b\r\n\r\n0\r\n\r\nbbbb\r\n000\r\n\r\n", more: "0\r\n\r\n"},
		{name: "digits", answer: chunked + "1A\r\n" + strings.Repeat("a", 0x1a) + "\r\n1f\r\n" + strings.Repeat("b", 0x1f) + "\r\n0\r\n\r\n", more: "more"},
		{name: "extensions and spaces", answer: chunked + "3;a=\"0\";b\r\nabc\r\n2 \t\r\nde\r\n0;0\r\n\r\n", more: "more"},
		{name: "trailer", answer: chunked + "3\r\nabc\r\n0\r\nA: b\r\nContent-Length: 5\r\n\r\n", more: "more"},
		{name: "trailer that begins like an answer", answer: chunked + "0\r\nHTTP/1.1 200 OK\r\n\r\n", more: "more"},
		{name: "no chunk", answer: chunked + "0\r\n\r\n", more: "more"},
		{name: "HEAD, chunks", request: "HEAD / HTTP/1.1\r\n\r\n", answer: chunked, more: "3\r\nabc\r\n0\r\n\r\n"},
		{name: "chunks of HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "equal lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "another line is continued", answer: "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "many spaces before the status", answer: "HTTP/1.1   200 OK\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "a version that does not exist", answer: "HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", more: "more"},
		{name: "two codings", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", more: "more", all: true},
		{name: "chunks twice", answer: chunked[:len(chunked)-2] + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", more: "more", all: true},
		{name: "chunks, continued line", answer: chunked[:len(chunked)-2] + " x\r\n\r\n0\r\n\r\n", more: "more", all: true},
		{name: "no size", answer: chunked + ";a\r\n0\r\n\r\n", more: "more", all: true},
		{name: "huge chunk", answer: chunked + "ffffffffffffffff\r\n0\r\n\r\n", more: "more", all: true},
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
			wire := c.answer + c.more
			for i := range 100 + len(wire) {
				from := &pieces{next: cuts(random, wire)}
				if i == 0 {
					from.next = []string{wire}
				} else if i < len(wire) {
					from.next = []string{wire[:i], wire[i:]}
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
	const plain, odd = "HTTP/1.1 206 P\r\nContent-Length: 5000\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nabc"
	body := strings.Repeat("b", 5000)
	from := &pieces{}
	conn := &answersConn{Conn: from}
	buf := make([]byte, 4096)
	for _, answer := range []string{plain + body, chunked, plain + body, odd, chunked, odd, odd, chunked, plain + body} {
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

// FuzzAnswers checks that net/http reads from a connection the answer that it would read from all the bytes, and that then no
// byte is left for it to print.
func FuzzAnswers(f *testing.F) {
	const head = "HTTP/1.1 200 OK\r\n"
	for _, wire := range []string{
		head + "Content-Length: 3\r\n\r\nabcmore",
		head + "Content-Length: 3\r\nContent-Length: 3\r\nA: b\r\n c\r\n\r\nabcmore",
		head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;b=\"c\"\r\n0123456789\r\n0\r\nA: b\r\n\r\nmore",
		head + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\nmore\r\n\r\n",
		head + "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n3\nabc\r\n0\r\n\r\nmore",
		head + "\r\nabcmore",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabcmore",
		"HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n" + head + "Content-Length: 3\r\n\r\nabcmore",
		"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(wire), uint64(1), false)
		f.Add([]byte(wire), uint64(2), true)
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		want := readAnswer(t, strings.NewReader(string(wire)), method)
		conn := &answersConn{Conn: &pieces{next: cuts(rand.New(rand.NewPCG(seed, 0)), string(wire))}}
		if _, err := io.WriteString(conn, method+" / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		got := readAnswer(t, conn, method)
		if !bytes.Contains(wire, []byte("\n\n")) && (got.text != want.text || got.kept != want.kept) { // a trailer may end there
			t.Errorf("%q: %+v, want %+v", wire, got, want)
		}
		if got.kept && got.left > 0 && !got.blind {
			t.Errorf("%q: %d bytes are left of %+v", wire, got.left, got)
		}
	})
}

// readBack is what net/http makes of an answer.
type readBack struct {
	text  string // the body, and the trailer
	kept  bool   // it would use the connection again
	left  int    // how many bytes it would print then
	blind bool   // the head is one that only net/http understands
}

func readAnswer(t *testing.T, from io.Reader, method string) (all readBack) {
	t.Helper()
	r := bufio.NewReader(from)
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return readBack{text: "no answer"}
		}
		if resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return readBack{text: "no body"}
		}
		all.text = fmt.Sprintf("%d %q %v", resp.StatusCode, body, resp.Trailer)
		all.kept = !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all.left = len(rest)
		if c, ok := from.(*answersConn); ok {
			all.blind = c.head.odd || c.endless
		}
		return all
	}
}
