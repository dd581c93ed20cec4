#!/bin/sh
# Makes the certificates of the double proxy with openssl(1), for a trial: whoever
# runs this for real has an authority already.
#
#   make-certs.sh DIR            an authority, and the two certificates
#   make-certs.sh DIR NAME SAN   one more of that authority, or a renewed one:
#                                NAME.pem and NAME.key
set -eu
dir=$1
umask 077
mkdir -p "$dir"

leaf() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$dir/$1.key.new" -out "$dir/$1.csr" 2>/dev/null
	printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n' "$2" >"$dir/$1.ext"
	openssl x509 -req -in "$dir/$1.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 30 -extfile "$dir/$1.ext" -out "$dir/$1.pem.new" 2>/dev/null
	mv "$dir/$1.key.new" "$dir/$1.key"
	mv "$dir/$1.pem.new" "$dir/$1.pem"
	rm "$dir/$1.csr" "$dir/$1.ext"
}

if [ $# -eq 3 ]; then
	leaf "$2" "$3"
	exit
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=double proxy authority" \
	-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
	-keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
leaf db "DNS:orders.db.example,URI:spiffe://example/belay/db"
leaf app "URI:spiffe://example/belay/app"
