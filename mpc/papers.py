"""The source of each construction: citation key -> title and address. Docstrings cite the keys."""

from __future__ import annotations

from typing import NamedTuple


class Paper(NamedTuple):
    """A paper, standard or specification."""

    title: str
    url: str


PAPERS = {
    "beaver91": Paper(
        "D. Beaver: Efficient Multiparty Protocols Using Circuit Randomization, CRYPTO 1991", "https://doi.org/10.1007/3-540-46766-1_34"
    ),
    "blake2": Paper(
        "M.-J. Saarinen, J.-P. Aumasson: The BLAKE2 Cryptographic Hash and MAC, RFC 7693", "https://www.rfc-editor.org/rfc/rfc7693"
    ),
    "catrina10": Paper(
        "O. Catrina, A. Saxena: Secure Computation with Fixed-Point Numbers, Financial Cryptography 2010",
        "https://doi.org/10.1007/978-3-642-14577-3_6",
    ),
    "catrina10b": Paper(
        "O. Catrina, S. de Hoogh: Improved Primitives for Secure Multiparty Integer Computation, SCN 2010",
        "https://doi.org/10.1007/978-3-642-15317-4_13",
    ),
    "chan83": Paper(
        "T. Chan, G. Golub, R. LeVeque: Algorithms for Computing the Sample Variance, The American Statistician 1983",
        "https://doi.org/10.1080/00031305.1983.10483115",
    ),
    "dalskov20": Paper(
        "A. Dalskov, D. Escudero, M. Keller: Secure Evaluation of Quantized Neural Networks, PETS 2020",
        "https://eprint.iacr.org/2019/131",
    ),
    "patra21": Paper(
        "A. Patra, T. Schneider, A. Suresh, H. Yalame: ABY2.0: Improved Mixed-Protocol Secure Two-Party Computation, USENIX Security 2021",
        "https://eprint.iacr.org/2020/1225",
    ),
    "newton-schulz": Paper(
        "V. Pan, R. Schreiber: An Improved Newton Iteration for the Generalized Inverse of a Matrix, SIAM J. Sci. Stat. Comput. 12, 1991",
        "https://doi.org/10.1137/0912058",
    ),
    "noise": Paper("T. Perrin: The Noise Protocol Framework, revision 34", "https://noiseprotocol.org/noise.html"),
    "rfc7748": Paper("A. Langley, M. Hamburg, S. Turner: Elliptic Curves for Security, RFC 7748", "https://www.rfc-editor.org/rfc/rfc7748"),
    "rfc8032": Paper(
        "S. Josefsson, I. Liusvaara: Edwards-Curve Digital Signature Algorithm, RFC 8032", "https://www.rfc-editor.org/rfc/rfc8032"
    ),
    "rotaru19": Paper(
        "D. Rotaru, T. Wood: MArBled Circuits: Mixing Arithmetic and Boolean Circuits with Active Security, INDOCRYPT 2019",
        "https://eprint.iacr.org/2019/207",
    ),
    "secureml17": Paper(
        "P. Mohassel, Y. Zhang: SecureML: A System for Scalable Privacy-Preserving Machine Learning, IEEE S&P 2017",
        "https://eprint.iacr.org/2017/396",
    ),
    "sp800-38a": Paper(
        "M. Dworkin: Recommendation for Block Cipher Modes of Operation, NIST SP 800-38A", "https://doi.org/10.6028/NIST.SP.800-38A"
    ),
    "turbospeedz": Paper(
        "A. Ben-Efraim, M. Nielsen, E. Omri: Turbospeedz: "
        "Double Your Online SPDZ! Improving SPDZ Using Function Dependent Preprocessing, ACNS 2019",
        "https://eprint.iacr.org/2019/080",
    ),
    "valiant75": Paper(
        "L. Valiant: Parallelism in Comparison Problems, SIAM Journal on Computing 1975",
        "https://doi.org/10.1137/0204030",
    ),
}
