package bucket

import (
	"context"
	"net/http"

	"github.com/ossdl/ossdl/internal/object"
)

// Head asks what the service says of an object.
func (b *Client) Head(ctx context.Context, key string) (object.Facts, error) {
	resp, err := b.open(ctx, http.MethodHead, key, map[string]any{})
	if err != nil {
		return object.Facts{}, err
	}
	resp.Body.Close()
	return object.ReadHead(resp.Headers)
}
