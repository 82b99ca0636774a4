package bucket

import (
	"context"
	"net/http"

	"github.com/ossdl/ossdl/internal/object"
)

// Stat is like [Client.Head], and returns the header of the answer, too. It is nil if the server refused HEAD.
func (c *Client) Stat(ctx context.Context, key, version string) (object.Facts, http.Header, error) {
	params := map[string]any{}
	if version != "" {
		params["versionId"] = version
	}
	resp, err := c.open(ctx, http.MethodHead, key, params)
	if refusesHead(err) {
		f, err := c.firstByte(ctx, key, version)
		return f, nil, err
	}
	if err != nil {
		return object.Facts{}, nil, err
	}
	resp.Body.Close()
	f, err := object.ReadHead(resp.Headers)
	return f, resp.Headers, err
}
