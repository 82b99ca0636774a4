package bucket

import (
	"context"
	"net/http"

	"github.com/ossdl/ossdl/internal/object"
)

// Head asks for the facts of an object, without its bytes.
func (c *Client) Head(ctx context.Context, key string) (object.Facts, error) {
	resp, err := c.open(ctx, http.MethodHead, key, map[string]any{})
	if err != nil {
		return object.Facts{}, err
	}
	resp.Body.Close()
	return object.ReadHead(resp.Headers)
}
